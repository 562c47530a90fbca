"""What ``state_dict`` leaves out of a model: which parameters and modules are in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hookloop.soundness import need

#: Of parameters and of modules, by name.
Switches = dict[str, dict[str, bool]]


def of(model: Any) -> Switches:
    """Read ``requires_grad`` of every parameter and ``training`` of every module."""
    if not hasattr(model, "named_parameters"):
        return {}
    return {
        "requires_grad": {name: one.requires_grad for name, one in model.named_parameters()},
        "training": {name: one.training for name, one in model.named_modules()},
    }


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
    kinds = saved.items() if isinstance(saved, Mapping) else [("", None)]
    sound = all(
        kind in ("requires_grad", "training")
        and isinstance(named, Mapping)
        and all(type(value) is bool for value in named.values())
        for kind, named in kinds
    )
    need(sound, "what was switched in its model is no table of flags")


def put_back(model: Any, saved: Switches) -> None:
    """Switch a model as it was when a state was taken."""
    if hasattr(model, "named_parameters"):
        parameters, modules = dict(model.named_parameters()), dict(model.named_modules())
        for name in saved.get("requires_grad", {}).keys() & parameters.keys():
            parameters[name].requires_grad = saved["requires_grad"][name]
        for name in saved.get("training", {}).keys() & modules.keys():
            modules[name].training = saved["training"][name]
