"""When to stop: patience, counted over the values of one metric. Knows nothing of a loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hookloop.monitor import Monitor


@dataclass
class Patience:
    """Counts how long a metric has not improved.

    The rule is that of Keras 3 (``EarlyStopping.on_epoch_end``), with the baseline enforced: while
    no value has beaten it, ``wait`` goes on counting, however much the metric improves.

    Attributes:
        wait: Monitored epochs since the metric last improved.
        best_epoch: Index of the epoch of the best value, from 0.
        seen: Whether there was a monitored epoch already.
    """

    wait: int = 0
    best_epoch: int = 0
    seen: bool = False

    def step(
        self, monitor: Monitor, epoch: int, value: float, *, patience: int, baseline: float | None
    ) -> tuple[bool, bool]:
        """Take the value of one epoch.

        Args:
            monitor: Compares, and keeps the best value.
            epoch: Index of the epoch.
            value: What was measured.
            patience: Epochs without improvement after which to stop.
            baseline: Value to beat before an improvement resets the count.

        Returns:
            Whether the value is the best so far, and whether to stop.
        """
        first, self.seen = not self.seen, True
        self.wait += 1
        improved = monitor.improved(value)
        if improved or first:  # of a first NaN the weights are kept, for want of better ones
            self.best_epoch = epoch
        if improved and (baseline is None or monitor.beats(value, baseline)):
            self.wait = 0
            return True, False
        return improved, self.wait >= patience and not first

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.wait, self.best_epoch = int(state["wait"]), int(state["best_epoch"])
        self.seen = bool(state["seen"])
