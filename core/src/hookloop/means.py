"""Means: sample-weighted means of logged numbers, kept where the numbers are."""

from __future__ import annotations

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
        self._sums: dict[str, Any] = {}
        self._weights: dict[str, float] = {}

    def add(self, logs: Logs) -> None:
        """Take the logs of one batch; ``size`` is its weight, 1 where it is not there."""
        size = logs.raw("size", 1)
        sums, weights = self._sums, self._weights
        for key, value in logs.raw_items():
            if key == "size":
                continue
            number = _addend(value)
            if number is None:
                continue
            if key in self._latest:
                sums[key], weights[key] = number, 1
            elif key in sums:
                sums[key] += number * size
                weights[key] += size
            else:
                sums[key], weights[key] = number * size, size

    def result(self) -> dict[str, Any]:
        """Give the means so far; those of numbers on an accelerator are 0-d tensors there."""
        weights = self._weights
        return {key: total / weights[key] for key, total in self._sums.items() if weights[key]}

    def clear(self) -> None:
        self._sums, self._weights = {}, {}

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self._sums), "weights": dict(self._weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums, self._weights = dict(state["sums"]), dict(state["weights"])


def _addend(value: Any) -> Any:
    """Make a logged value one that can be added up; None if it is no single number."""
    kind = type(value)
    if kind is float or kind is int:
        return value
    if getattr(value, "ndim", None) != 0:
        return float(value) if isinstance(value, int | float) else None
    if not hasattr(value, "device") or value.device.type == "cpu":
        number = value.item()
        return number if isinstance(number, int | float) else None
    import torch

    return value.detach().to(torch.float32 if value.device.type == "mps" else torch.float64)
