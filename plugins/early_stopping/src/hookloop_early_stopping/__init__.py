"""early_stopping: stop training when a metric no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from hookloop import Callback
from hookloop.errors import CapabilityError, SettingError, StateError
from hookloop.monitor import Monitor
from hookloop.state import differences
from hookloop_early_stopping._patience import Patience

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EarlyStopping"]
__version__ = "0.1.0"


class EarlyStopping(Callback):
    """Stops training when a monitored metric has not improved for a number of epochs.

    Args:
        monitor: Name of the metric in the logs of the epoch.
        min_delta: How much better a value has to be to count, in the metric's unit.
        patience: Monitored epochs without improvement after which training stops; 0 is as 1.
        verbose: 1 says when it stops and which weights it puts back.
        mode: ``"min"``, ``"max"``, or ``"auto"`` to tell from the metric.
        baseline: Value that has to be beaten within ``patience`` epochs, however much the metric
            improves below it.
        restore_best_weights: Whether the model ends with the weights of its best epoch.
        start_from_epoch: Epochs to let pass before monitoring begins.
        restore: When the best weights are put back: ``"always"`` at the end of training, as in
            Keras 3, or ``"on_stop"``, only if this callback stopped it, as in Keras 2.

    Attributes:
        best: The best value so far, None before the first.
        best_epoch: Index of its epoch, from 0.
        best_weights: Copy of the model's state at that epoch, if it is to be restored.
        wait: Monitored epochs since the metric last improved.
        stopped_epoch: Index of the epoch that was stopped after; 0 if it was not.

    Raises:
        SettingError: For a setting that makes no sense.
    """

    changes = ("model",)

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: bool | int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
        *,
        restore: Literal["always", "on_stop"] = "always",
    ) -> None:
        for name, value in (("patience", patience), ("start_from_epoch", start_from_epoch)):
            if value < 0:
                message = f"early_stopping: {name}={value} is negative."
                raise SettingError(message, fix=f"{name}=0 or more, in epochs")
        if baseline is not None and math.isnan(baseline):
            message = "early_stopping: baseline is not a number."
            raise SettingError(message, fix="baseline=None, or the value to beat")
        if restore not in ("always", "on_stop"):
            message = f"early_stopping: restore={restore!r} is not offered."
            raise SettingError(message, fix="restore='always' or restore='on_stop'")
        self.monitor = monitor
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.restore = restore
        self._monitor = Monitor(monitor, mode=mode, min_delta=min_delta, who="early_stopping")
        self._reset()

    def _reset(self) -> None:
        self._patience = Patience()
        self.stopped_epoch = 0
        self.best_weights: dict[str, Tensor] | None = None

    @property
    def best(self) -> float | None:
        return self._monitor.best

    @property
    def best_epoch(self) -> int:
        return self._patience.best_epoch

    @property
    def wait(self) -> int:
        return self._patience.wait

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        model: object | None = self.model
        if self.restore_best_weights and model is None:
            message = f"early_stopping restores weights, and {self.loop.host} was given no model."
            raise CapabilityError(message, fix="pass model=, or restore_best_weights=False")
        self._reset()
        loop = self.loop
        self._monitor.start(loop.metrics, loop.reported(), loop.how_to_validate)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        value = self._monitor.value(logs or {})
        if value is None or epoch < self.start_from_epoch:
            return
        first = not self._patience.seen
        improved, stop = self._patience.step(
            self._monitor, epoch, value, patience=self.patience, baseline=self.baseline
        )
        if self.restore_best_weights and (improved or first):
            self._remember_weights()
        if stop:
            self.stopped_epoch = epoch
            self.loop.stop(self._reason())

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._monitor.finish()
        if self.stopped_epoch and self.verbose:
            self.loop.message(f"Epoch {self.stopped_epoch + 1}: early stopping")
        wanted = self.restore == "always" or self.stopped_epoch > 0
        if self.best_weights is not None and wanted:
            if self.verbose:
                self.loop.message(
                    "Restoring model weights from the end of the best epoch: "
                    f"{self.best_epoch + 1}."
                )
            self.model.load_state_dict(self.best_weights)

    def _reason(self) -> str:
        if self.best is None:
            return f"early_stopping: no {self.monitor} in {self.wait} epochs was a number"
        goal = f"improved on {self.best:.5g} (epoch {self.best_epoch + 1})"
        if self.baseline is not None and not self._monitor.beats(self.best, self.baseline):
            goal = f"beaten the baseline {self.baseline:.5g}"
        return f"early_stopping: {self.monitor} has not {goal} for {self.wait} epochs"

    def _remember_weights(self) -> None:
        """Copy the weights, from the second time on into the same memory."""
        current = self.model.state_dict()
        if self.best_weights is None:
            self.best_weights = {key: value.clone() for key, value in current.items()}
        else:
            for key, value in current.items():
                self.best_weights[key].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {
            "monitor": self._monitor.state_dict(),
            "patience": self._patience.state_dict(),
            "stopped_epoch": self.stopped_epoch,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved = state["best_weights"]
        if saved is not None and (wrong := differences(self.model, saved)):
            message = f"early_stopping: the best weights are of another model: {wrong[0]}."
            raise StateError(message, fix="build the model as it was when the state was saved")
        self._monitor.load_state_dict(state["monitor"])
        self._patience.load_state_dict(state["patience"])
        self.stopped_epoch = int(state["stopped_epoch"])
        self.best_weights = saved and {key: value.clone() for key, value in saved.items()}
