"""Telling whether a number is finite, also one that is still on its way from an accelerator."""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Place:
    """Where a number was reported.

    Attributes:
        name: What it is, such as ``loss``.
        epoch: Index of the epoch, from 0.
        batch: Index of the batch, from 0; None for a number of the whole epoch.
    """

    name: str
    epoch: int
    batch: int | None

    def line(self) -> str:
        """Say it as Keras does."""
        which = f"Epoch {self.epoch}" if self.batch is None else f"Batch {self.batch}"
        return f"{which}: Invalid {self.name}, terminating training"

    def error(self, value: Any) -> RuntimeError:
        """Make the exception, in Keras's words."""
        which = f"epoch {self.epoch}" if self.batch is None else f"batch {self.batch}"
        return RuntimeError(
            f"NaN or Inf {self.name} encountered at {which}. {self.name.capitalize()} value: "
            f"{value}. Terminating training immediately."
        )


class Arriving:
    """A number that was asked for without waiting, and can be read when it has arrived.

    Args:
        place: Where it was reported.
        value: Tensor on an accelerator, of any shape.
    """

    def __init__(self, place: Place, value: Tensor) -> None:
        import torch

        self.place = place
        self._copy = one_number(value.detach()).to("cpu", non_blocking=True)
        self._arrival = torch.Event(value.device)
        # The copy's own stream, which with several devices need not be the current one.
        self._arrival.record(torch.accelerator.current_stream(value.device))

    def read(self) -> float:
        """Give the number; waits until it is there."""
        self._arrival.synchronize()
        return float(self._copy.item())


def is_finite(value: Any) -> bool:
    """Tell whether a value that is on the CPU is finite; what is no number is."""
    if isinstance(value, float | int):
        return math.isfinite(value)
    return not hasattr(value, "max") or math.isfinite(one_number(value))


def are_finite(tensors: Iterable[Tensor]) -> bool:
    """Tell whether all elements of all tensors are finite; waits for an accelerator."""
    # All are added up before the first sum is waited for. A sum takes a third of the time of asking
    # for each element, and can be infinite where none of them is: those are asked.
    sums = [(one, _sum(one)) for one in (one.detach() for one in tensors)]
    return all(
        (total is not None and cmath.isfinite(total.item())) or one.isfinite().all().item()
        for one, total in sums
    )


def _sum(tensor: Tensor) -> Tensor | None:
    """Add a tensor up; None if torch cannot, as with some short types of floats."""
    try:
        return tensor.sum()
    except NotImplementedError:
        return None


def one_number(value: Any) -> Any:
    """Make one number of a tensor or array, which is not finite if any of its elements is not."""
    return value if value.ndim == 0 else abs(value).max()
