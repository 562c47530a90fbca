"""What ``state_dict`` leaves out of a model: which parameters and modules are in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hookloop.soundness import need

#: Of parameters and of modules, by name.
Switches = dict[str, dict[str, bool]]


def of(model: Any) -> Switches:
    """Read ``requires_grad`` of every parameter and ``training`` of every module."""
    return {
        kind: {name: getattr(one, kind) for name, one in named.items()}
        for kind, named in _parts(model).items()
    }


def _parts(model: Any) -> dict[str, dict[str, Any]]:
    if not hasattr(model, "named_parameters"):
        return {}
    parameters, modules = dict(model.named_parameters()), dict(model.named_modules())
    return {"requires_grad": parameters, "training": modules}


def changed(before: Switches, model: Any) -> Switches:
    """Give those that are not as they were when the run began.

    Only those: whoever starts a run again with other layers frozen has them frozen.
    """
    return {
        kind: {name: value for name, value in now.items() if before[kind].get(name) != value}
        for kind, now in (of(model) if before else {}).items()
    }


def check(saved: Any) -> None:
    """Refuse what `changed` cannot have given; a state of an earlier hookloop has none."""
    found = [*saved.values()] if isinstance(saved, Mapping) else [None]
    sound = all(isinstance(one, Mapping) and {*map(type, one.values())} <= {bool} for one in found)
    need(sound, "what was switched in its model is no table of flags")


def put_back(model: Any, saved: Switches) -> None:
    """Switch a model as it was when a state was taken."""
    for kind, named in _parts(model).items():
        for name in saved.get(kind, {}).keys() & named.keys():
            setattr(named[name], kind, saved[kind][name])
