"""Means: sample-weighted means of logged numbers, kept where the numbers are."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from hookloop.logs import Logs


class Means:
    """Adds up the numeric values of batch logs, weighted by their ``size``.

    Numbers on the CPU are added as Python floats, which is cheaper there than a tensor operation;
    numbers on an accelerator are added on it, in float64 where it has that, and nothing waits.

    Args:
        latest: Keys that are already accumulated by whoever reports them: their last value counts.
    """

    def __init__(self, latest: Collection[str] = ()) -> None:
        self._latest = frozenset(latest)
        self._totals: dict[str, list[Any]] = {}

    def add(self, logs: Logs) -> None:
        """Take the logs of one batch; ``size`` is its weight, 1 where it is not there."""
        size, totals, latest = dict.get(logs, "size", 1), self._totals, self._latest
        for key, value in dict.items(logs):
            if type(value) is not float:
                value = None if key == "size" else _addend(value)
                if value is None:
                    continue
            if key in latest:
                totals[key] = [value, 1]
            elif key in totals:
                total = totals[key]
                total[0] = total[0] + value * size  # not in place: a saved state may hold it
                total[1] += size
            else:
                totals[key] = [value * size, size]

    def result(self) -> dict[str, Any]:
        """Give the means so far; those of numbers on an accelerator are 0-d tensors there."""
        return {key: total / weight for key, (total, weight) in self._totals.items() if weight}

    def clear(self) -> None:
        self._totals = {}

    def state_dict(self) -> dict[str, Any]:
        return {key: list(total) for key, total in self._totals.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for total in state.values():
            if len(total) != 2 or any(_addend(part) is None for part in total):
                raise ValueError("the sums of an epoch are no pairs of numbers")
        self._totals = {key: list(total) for key, total in state.items()}


def _addend(value: Any) -> Any:
    """Make a logged value one that can be added up; None if it is no single number."""
    if getattr(value, "ndim", None) != 0:
        return _float(value) if isinstance(value, int | float) else None
    if not hasattr(value, "detach") or value.device.type == "cpu":
        number = value.item()
        return _float(number) if isinstance(number, int | float) else None
    import torch

    return value.detach().to(torch.float32 if value.device.type == "mps" else torch.float64)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number beyond any float
        return math.inf if value > 0 else -math.inf
