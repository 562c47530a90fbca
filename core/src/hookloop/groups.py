"""Groups of parameters that an optimizer is given during a run, as when layers are unfrozen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hookloop.soundness import is_list, need

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from hookloop.loop import Loop

#: Of one optimizer, the names of the parameters of each group that it was given.
Added = list[list[str]]


def names_of(model: Any) -> dict[int, str]:
    """Name a model's parameters, by their ids."""
    named = model.named_parameters() if hasattr(model, "named_parameters") else ()
    return {id(parameter): name for name, parameter in named}


def added(loop: Loop) -> list[Added]:
    """Name what each optimizer was given since the run began."""
    began = [len(one["groups"]) for one in loop.made.get("optimizers", ())]
    more = [one.param_groups[n:] for one, n in zip(loop.optimizers, began, strict=False)]
    names = names_of(loop.model) if any(more) else {}
    return [
        [[names.get(id(one), "?") for one in group["params"]] for group in some] for some in more
    ]


def check(saved: Any) -> None:
    """Refuse what `added` cannot have given; a state of an earlier hookloop has none."""
    sound = is_list(saved) and all(map(is_list, saved))
    sound = sound and all(is_list(group) for some in saved for group in some)
    sound = sound and {type(name) for some in saved for group in some for name in group} <= {str}
    need(sound, "what was added to its optimizers are no groups of parameters")


def of(loop: Loop, saved: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """Give the groups of each optimizer as they will be once it has those of a state, too."""
    told = saved["loop"].get("added", [])
    own = dict(loop.model.named_parameters()) if any(told) else {}
    found = [list(one.param_groups) for one in loop.optimizers]
    for groups, optimizer, state, names in zip(
        found, loop.optimizers, saved["optimizers"], told, strict=False
    ):
        groups += _lacking(optimizer, state["param_groups"], names, own)
    return found


def _lacking(
    optimizer: Optimizer, saved: list[Any], names: Added, own: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Make the groups that only the state has; none if they cannot be those that were added."""
    count = len(saved) - len(optimizer.param_groups)
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    if not 0 < count <= len(names):
        return
    for before, group in zip(saved[-count:], names[-count:], strict=True):
        parameters = [own[name] for name in group if name in own]
        if len(parameters) < len(group) or held & {*map(id, parameters)}:
            return
        held.update(map(id, parameters))
        yield {**before, **optimizer.defaults, "params": parameters, "param_names": group}


def grow(loop: Loop, saved: Mapping[str, Any]) -> None:
    """Give optimizers the groups that only the state has; their settings come with it."""
    for optimizer, groups in zip(loop.optimizers, of(loop, saved), strict=True):
        for group in groups[len(optimizer.param_groups) :]:
            named = "param_names" in optimizer.param_groups[0]
            parameters = zip(group["param_names"], group["params"], strict=True)
            optimizer.add_param_group({"params": [*parameters] if named else group["params"]})
