"""reduce_lr_on_plateau: lower the learning rate when a metric no longer improves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hookloop import Callback
from hookloop.errors import SettingError, warn
from hookloop.monitor import Monitor
from hookloop_reduce_lr_on_plateau._plateau import Plateau, reduced

__all__ = ["ReduceLROnPlateau"]
__version__ = "0.1.0"

_WHO = "reduce_lr_on_plateau"
_MIN_DELTA = 1e-4


class ReduceLROnPlateau(Callback):
    """Lowers the learning rate when a monitored metric has not improved for a number of epochs.

    Args:
        monitor: Name of the metric in the logs of the epoch; ``"learning_rate"`` means ``lr``.
        factor: What the learning rate is multiplied by, between 0 and 1.
        patience: Monitored epochs without improvement after which it is lowered; 0 is as 1.
        verbose: 1 says when it is lowered, and when it can fall no further.
        mode: ``"min"``, ``"max"``, or ``"auto"`` to tell from the metric.
        min_delta: How much better a value has to be to count, in the metric's unit.
        cooldown: Monitored epochs after a reduction that do not count.
        min_lr: What the rate of the first parameter group does not fall below; the other groups
            keep their ratio to it.
        epsilon: Old name of ``min_delta``.

    Attributes:
        best: The best value so far, None before the first.
        wait: Monitored epochs since the metric last improved.
        cooldown_counter: Epochs of the cooldown that are left.

    Raises:
        SettingError: For a setting that makes no sense.
    """

    needs: ClassVar[tuple[str, ...]] = ("set_lr",)
    changes: ClassVar[tuple[str, ...]] = ("optimizer", "logs")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: bool | int = 0,
        mode: str = "auto",
        min_delta: float = _MIN_DELTA,
        cooldown: int = 0,
        min_lr: float = 0.0,
        *,
        epsilon: float | None = None,
    ) -> None:
        if not 0 < factor < 1:
            message = f"{_WHO}: factor={factor} does not lower a learning rate step by step."
            raise SettingError(message, fix="a factor between 0 and 1, such as factor=0.1")
        for name, value in (("patience", patience), ("cooldown", cooldown), ("min_lr", min_lr)):
            if not value >= 0:
                raise SettingError(
                    f"{_WHO}: {name}={value} is not offered.", fix=f"{name}=0, or more"
                )
        if epsilon is not None:
            min_delta = _renamed(epsilon, min_delta)
        self.monitor = monitor
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.mode = mode
        self.min_delta = abs(min_delta)
        self.cooldown = cooldown
        self.min_lr = min_lr
        self._monitor = _monitor(monitor, mode, min_delta)
        self._plateau = Plateau()
        self._at_floor = False

    @property
    def best(self) -> float | None:
        return self._monitor.best

    @property
    def wait(self) -> int:
        return self._plateau.wait

    @property
    def cooldown_counter(self) -> int:
        return self._plateau.cooldown_counter

    def in_cooldown(self) -> bool:
        """Tell whether the next epoch does not count, because of a recent reduction."""
        return self.cooldown_counter > 0

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._plateau = Plateau()
        self._at_floor = False
        loop, reported = self.loop, self.loop.reported()
        known = reported and [*reported, "lr"]
        self._monitor.start(loop.metrics, known, loop.how_to_validate)
        _ = loop.lr  # a loop without an optimizer is refused now, not after an epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Both in one hook: deciders come before the loggers, which then find the rate that was
        # in force during the epoch. A scheduler's own entry is of before it stepped: kept.
        logs = {} if logs is None else logs
        logs.setdefault("lr", self.loop.lr)
        value = self._monitor.value(logs)
        if value is None:
            return
        improved = self._monitor.improved(value)
        if self._plateau.step(improved, patience=self.patience, cooldown=self.cooldown):
            self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        rate = reduced(self.loop.lr, self.factor, self.min_lr)
        if rate is not None:
            self.loop.set_lr(rate, by=_WHO, relative=True)
            self._at_floor = False
            if self.verbose:
                self._say(epoch, f"reducing learning rate to {rate:.6g}.")
        elif not self._at_floor:
            self._at_floor = True
            if self.verbose:
                self._say(epoch, f"learning rate stays at {self.loop.lr:.6g}, its lowest.")

    def _say(self, epoch: int, text: str) -> None:
        self.loop.message(f"Epoch {epoch + 1}: ReduceLROnPlateau {text}")

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._monitor.finish()

    def state_dict(self) -> dict[str, Any]:
        return {
            "monitor": self._monitor.state_dict(),
            "plateau": self._plateau.state_dict(),
            "at_floor": self._at_floor,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._monitor.load_state_dict(state["monitor"])
        self._plateau.load_state_dict(state["plateau"])
        self._at_floor = bool(state["at_floor"])


def _monitor(name: str, mode: str, min_delta: float) -> Monitor:
    """Make the monitor; the learning rate, under Keras's name or ours, is this callback's own."""
    if name in ("learning_rate", "lr"):
        name, mode = "lr", "min" if mode == "auto" else mode
    return Monitor(name, mode=mode, min_delta=min_delta, who=_WHO)


def _renamed(epsilon: float, min_delta: float) -> float:
    if min_delta != _MIN_DELTA:
        message = f"{_WHO}: epsilon={epsilon} and min_delta={min_delta} are one setting."
        raise SettingError(message, fix=f"keep min_delta={min_delta}")
    warn(
        f"{_WHO}: epsilon= is the old name of min_delta=, and goes in 1.0.\n"
        f"fix: min_delta={epsilon}",
        DeprecationWarning,
    )
    return epsilon
