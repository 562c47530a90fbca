"""Learning rates of parameter groups, and setting them so that their ratios stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hookloop.errors import ArgumentError

if TYPE_CHECKING:
    from torch.optim import Optimizer


#: What schedulers keep in the groups. One that is made later begins with ``initial_lr``, also that
#: of a resumed run; the others are OneCycleLR's.
_KEPT_IN_GROUPS = ("initial_lr", "max_lr", "min_lr")


def of(optimizer: Optimizer) -> list[float]:
    """Read the learning rate of each parameter group."""
    return [float(group["lr"]) for group in getattr(optimizer, "param_groups", ())]


def bases(optimizers: Sequence[Optimizer]) -> list[list[float]]:
    """Read the rates to which later ones are proportional."""
    return [of(optimizer) for optimizer in optimizers]


def set_rates(
    optimizers: Sequence[Optimizer],
    base: Sequence[Sequence[float]],
    value: float,
    only: Optimizer | None = None,
) -> None:
    """Set every group to the value times its base over the first base.

    Where the first base is 0 there is no ratio, and every group gets the value itself.

    Args:
        optimizers: All optimizers of the run.
        base: Their rates when the run started.
        value: Rate of the first group: of the first optimizer, or of the one in ``only``.
        only: Set this optimizer alone.
    """
    chosen = [
        (optimizer, rates)
        for optimizer, rates in zip(optimizers, base, strict=True)
        if only is None or optimizer is only
    ]
    if only is not None and not chosen:
        message = "set_lr() was given an optimizer that is not one of this run."
        raise ArgumentError(message, fix="pass one of loop.optimizers, or none for all")
    first = chosen[0][1][0] if chosen and chosen[0][1] else 0.0
    for optimizer, rates in chosen:
        for index, group in enumerate(optimizer.param_groups):
            known = rates[index] if index < len(rates) else first  # a group added since
            _set(group, value * (known / first) if first else value)


def agree(
    schedulers: Sequence[Any], optimizers: Sequence[Optimizer], before: Sequence[float]
) -> bool:
    """Make running schedulers of torch go on from rates that somebody else has just set.

    A scheduler computes the next rate from the one in force, which needs no help, or from the one
    with which it began: that is scaled by as much as the rate was, group by group.

    Args:
        schedulers: Instances of ``LRScheduler``; one made of several has its parts scaled.
        optimizers: All optimizers, whose rates are the new ones. A scheduler may know one of them
            by a wrapper that shares its parameter groups, as accelerate's does.
        before: The rates of all groups of all optimizers until now.

    Returns:
        Whether they agree: there is no ratio to a rate of 0.
    """
    after = [rate for optimizer in optimizers for rate in of(optimizer)]
    factors = [new / old if old and new else 1.0 for old, new in zip(before, after, strict=True)]
    where = iter(factors)
    scales = {id(one.param_groups): [next(where) for _ in one.param_groups] for one in optimizers}
    for scheduler in schedulers:
        _rescale(scheduler, scales.get(id(scheduler.optimizer.param_groups), ()))
    for optimizer in {id(one.optimizer.param_groups): one.optimizer for one in schedulers}.values():
        for group, factor in zip(
            optimizer.param_groups, scales.get(id(optimizer.param_groups), ()), strict=False
        ):
            group.update({key: group[key] * factor for key in _KEPT_IN_GROUPS if key in group})
    return all(old == new or (old and new) for old, new in zip(before, after, strict=True))


def _rescale(scheduler: Any, scale: Sequence[float]) -> None:
    for part in getattr(scheduler, "_schedulers", ()):
        _rescale(part, scale)
    for name in ("base_lrs", "max_lrs"):
        rates = getattr(scheduler, name, None)
        if isinstance(rates, list) and len(rates) == len(scale):
            scaled = [rate * factor for rate, factor in zip(rates, scale, strict=True)]
            setattr(scheduler, name, scaled)


def _set(group: dict[str, Any], value: float) -> None:
    if hasattr(group["lr"], "fill_"):  # a tensor, for capturable and compiled optimizers
        group["lr"].fill_(value)
    else:
        group["lr"] = value
