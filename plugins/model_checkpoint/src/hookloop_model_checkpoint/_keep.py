"""Which files to keep: the last few, the best few. Knows nothing of a loop, and deletes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hookloop.monitor import Monitor


@dataclass
class Kept:
    """The files that were written and are still wanted.

    Attributes:
        last: How many of the newest are wanted; None for no such bound.
        best: How many of the best are wanted; None for no such bound. With neither, nothing is
            remembered, as nothing will be deleted; with both, a file is wanted for either reason.
        files: For each wanted file, oldest first, its path, epoch (from 1) and monitored value.
        doomed: Paths of those no longer wanted that are not yet known to be deleted.
    """

    last: int | None
    best: int | None
    files: list[dict[str, Any]] = field(default_factory=list)
    doomed: list[str] = field(default_factory=list)

    def admits(self, path: str, value: float | None, monitor: Monitor) -> bool:
        """Tell whether a file of that name and value would be kept, were it written."""
        if self.best is None or self.last is not None:
            return True
        if value is None or not monitor.beats(value, None):
            return False
        if any(
            one["path"] == path and not monitor.beats(value, one["value"]) for one in self.files
        ):
            return False  # it would take the place of a better one
        ranked = self._ranked(monitor)
        return len(ranked) < self.best or monitor.beats(value, ranked[self.best - 1]["value"])

    def add(self, path: str, epoch: int, value: float | None, monitor: Monitor) -> None:
        """Take a file in, and doom those that are then beyond the bounds."""
        if self.last is None and self.best is None:
            return
        files = [one for one in self.files if one["path"] != path]
        files.append({"path": path, "epoch": epoch, "value": value})
        self.doomed = [one for one in self.doomed if one != path]
        self.files = files
        wanted = [one["path"] for one in files[-self.last :]] if self.last else []
        wanted += [one["path"] for one in self._ranked(monitor)[: self.best or 0]]
        self.files = [one for one in files if one["path"] in wanted]
        self.doomed += [one["path"] for one in files if one["path"] not in wanted]

    def forget(self, exists: Callable[[str], bool]) -> None:
        """Drop the files that are no longer there."""
        self.files = [one for one in self.files if exists(one["path"])]
        self.doomed = [one for one in self.doomed if exists(one)]

    def _ranked(self, monitor: Monitor) -> list[dict[str, Any]]:
        """Order the files that have a value from best to worst; the older of equals is first."""
        sign = -1.0 if monitor.direction == "max" else 1.0
        valued = [one for one in self.files if not math.isnan(_value(one))]
        return sorted(valued, key=lambda one: sign * _value(one))

    def state_dict(self) -> dict[str, Any]:
        return {"files": [dict(one) for one in self.files], "doomed": list(self.doomed)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.files = [dict(one) for one in state["files"]]
        self.doomed = list(state["doomed"])


def _value(file: Mapping[str, Any]) -> float:
    return math.nan if file["value"] is None else float(file["value"])
