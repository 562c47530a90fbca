"""best_metric: tell other callbacks whenever a metric is better than it ever was."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar

from hookloop import Callback
from hookloop.monitor import Monitor

from hookloop_best_metric import hookspecs as _hookspecs

__all__ = ["BestMetric"]
__version__ = "0.1.0"


class BestMetric(Callback):
    """Fires the hook ``on_new_best`` at the end of every epoch that is the best so far.

    Args:
        monitor: Name of the metric in the logs of the epoch.
        mode: ``"min"``, ``"max"``, or ``"auto"`` to tell from the metric.
        min_delta: How much better a value has to be to count, in the metric's unit.

    Attributes:
        best: The best value so far, None before the first.
        best_epoch: Index of its epoch, from 0; None before the first.
    """

    hook_api = 1
    hookspecs: ClassVar[ModuleType] = _hookspecs

    def __init__(
        self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0
    ) -> None:
        self.monitor = monitor
        self._monitor = Monitor(monitor, mode=mode, min_delta=min_delta, who="best_metric")
        self.best_epoch: int | None = None

    @property
    def best(self) -> float | None:
        return self._monitor.best

    def on_train_begin(self) -> None:
        self.best_epoch = None
        self._monitor.start(self.loop.metrics, self.loop.reported())

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        value = self._monitor.value(logs)
        if value is not None and self._monitor.improved(value):
            self.best_epoch = epoch
            self.loop.call("on_new_best", monitor=self.monitor, value=value)

    def on_train_end(self) -> None:
        self._monitor.finish()

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self._monitor.state_dict(), "best_epoch": self.best_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._monitor.load_state_dict(state["monitor"])
        self.best_epoch = state["best_epoch"]
