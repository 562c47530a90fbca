"""Learning rates of parameter groups, and setting them so that their ratios stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hookloop.errors import ArgumentError

if TYPE_CHECKING:
    from torch.optim import Optimizer


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


def _set(group: dict[str, Any], value: float) -> None:
    if hasattr(group["lr"], "fill_"):  # a tensor, for capturable and compiled optimizers
        group["lr"].fill_(value)
    else:
        group["lr"] = value
