"""Groups of parameters that an optimizer is given during a run, as when layers are unfrozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hookloop.errors import StateError
from hookloop.soundness import alike, is_list, is_scalar, need

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from hookloop.loop import Loop

#: Of one optimizer, the names of the parameters of each group.
Names = list[list[str]]


def named(model: Any) -> dict[str, Any]:
    """Give a model's parameters, by name."""
    return dict(model.named_parameters()) if hasattr(model, "named_parameters") else {}


def names_of(groups: list[dict[str, Any]], model: Any) -> Names:
    """Name the parameters of groups; those that the model lacks are called ``?``."""
    names = {id(one): name for name, one in named(model).items()}
    return [[names.get(id(one), "?") for one in group["params"]] for group in groups]


def added(loop: Loop) -> list[Names]:
    """Name what each optimizer was given since the run began."""
    began = [len(one["groups"]) for one in loop.made.get("optimizers", ())]
    more = [one.param_groups[n:] for one, n in zip(loop.optimizers, began, strict=False)]
    return [names_of(groups, loop.model) if groups else [] for groups in more]


def check(saved: Mapping[str, Any]) -> None:
    """Refuse a state whose added groups are no lists of names."""
    told = saved["loop"].get("added_groups", [])
    sound = is_list(told) and all(map(is_list, told))
    sound = sound and all(is_list(group) for some in told for group in some)
    sound = sound and {type(name) for some in told for group in some for name in group} <= {str}
    need(sound, "what was added to its optimizers are no groups of parameters")


def completed(loop: Loop, saved: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """Give the groups that each optimizer will have, in the order of the state.

    Those that were added in the run that was saved are found among its own by their parameters, or
    made. An optimizer to which that cannot be done stays as it is.
    """
    found = [list(one.param_groups) for one in loop.optimizers]
    for groups, optimizer, state, names in zip(
        found, loop.optimizers, saved["optimizers"], names_in(saved), strict=False
    ):
        began = len(state["param_groups"]) - len(names)
        if names and began >= 0:
            groups[began:] = _added(optimizer, began, state["param_groups"], names, loop.model)
    return found


def names_in(saved: Mapping[str, Any]) -> list[Names]:
    """Name what each optimizer of a state had been given."""
    none: list[Names] = [[] for _ in saved["optimizers"]]
    return [*saved["loop"].get("added_groups", ()), *none][: len(none)]


def _added(
    optimizer: Optimizer, began: int, saved: list[Any], names: Names, model: Any
) -> list[dict[str, Any]]:
    own, parameters = optimizer.param_groups[began:], named(model)
    there = dict(zip(map(tuple, names_of(own, model)), own, strict=True))
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    found = []
    for group, its_names in zip(saved[began:], names, strict=True):
        if tuple(its_names) in there:
            found.append(there.pop(tuple(its_names)))
            continue
        made = [parameters[name] for name in its_names if name in parameters]
        if len(made) < len(its_names) or held & {*map(id, made)}:
            return own
        held.update(map(id, made))
        for key, value in optimizer.defaults.items():
            sound = key in group and alike(value, group[key])
            sound = sound or not (is_scalar(value) or type(value) is tuple)
            need(sound, f"{key} of a group of an optimizer is {group.get(key)!r:.60}")
        found.append({**group, "params": made, "param_names": its_names})
    return own if there else found


def complete(loop: Loop, saved: Mapping[str, Any]) -> None:
    """Give each optimizer the groups of a state, in its order.

    Raises:
        StateError: If that is not possible, as callbacks have added others since it was checked.
    """
    for optimizer, groups, state, names in zip(
        loop.optimizers, completed(loop, saved), saved["optimizers"], names_in(saved), strict=True
    ):
        own = {id(group): at for at, group in enumerate(optimizer.param_groups)}
        for group in groups:
            if id(group) not in own:
                own[id(group)] = len(optimizer.param_groups)
                optimizer.add_param_group(_to_add(optimizer, group))
        ordered = [optimizer.param_groups[own[id(group)]] for group in groups]
        began = len(state["param_groups"]) - len(names)
        now = names_of(ordered[began:], loop.model)
        if now != names or len(ordered) != len(state["param_groups"]):
            message = f"The run began with {now} added to an optimizer; the state has {names}."
            raise StateError(message, fix="add the same groups as in the run that was saved")
        optimizer.param_groups[:] = ordered


def _to_add(optimizer: Optimizer, group: Mapping[str, Any]) -> dict[str, Any]:
    """Give a group as ``add_param_group`` takes it: with names if the optimizer has them."""
    settings = {key: value for key, value in group.items() if key != "param_names"}
    if "param_names" in optimizer.param_groups[0]:
        settings["params"] = [*zip(group["param_names"], group["params"], strict=True)]
    return settings
