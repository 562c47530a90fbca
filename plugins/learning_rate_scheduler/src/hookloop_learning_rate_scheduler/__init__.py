"""learning_rate_scheduler: set the learning rate by a function, or by a scheduler of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hookloop import Callback
from hookloop.errors import CapabilityError, SettingError
from hookloop_learning_rate_scheduler._function import makes_scheduler, rate_of, takes_rate

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LRScheduler

    from hookloop_learning_rate_scheduler._stepper import Stepper

__all__ = ["LearningRateScheduler"]
__version__ = "0.1.0"

_WHO = "learning_rate_scheduler"


class LearningRateScheduler(Callback):
    """Sets the learning rate by a function, or by a scheduler of torch.

    Args:
        schedule: A function ``schedule(epoch)`` or ``schedule(epoch, lr)`` that returns the rate,
            ``epoch`` counting from 0; or a scheduler of torch: by name with settings, as in
            ``"step:step_size=3,gamma=0.5"``, as an instance, or as a callable that makes one of
            its first argument, ``optimizer``.
        verbose: 1 says the rate with which each epoch begins.
        on: ``"epoch"``, or ``"batch"`` for once an optimizer step; a function is then given the
            number of completed steps in place of the epoch.
        monitor: Metric that ``"plateau"`` and its like step on; ``"val_loss"`` unless given.

    Raises:
        SettingError: For a schedule that cannot be called, or settings that make no sense.
    """

    needs: ClassVar[tuple[str, ...]] = ("set_lr",)
    changes: ClassVar[tuple[str, ...]] = ("optimizer", "logs")

    def __init__(
        self,
        schedule: str | LRScheduler | Callable[..., Any],
        verbose: bool | int = 0,
        *,
        on: Literal["epoch", "batch"] = "epoch",
        monitor: str | None = None,
    ) -> None:
        if on not in ("epoch", "batch"):
            raise SettingError(f"{_WHO}: on={on!r} is not offered.", fix="'epoch' or 'batch'")
        _refuse_others(schedule)
        self.schedule = schedule
        self.verbose = verbose
        self.on = on
        self.monitor = monitor
        self._stepper: Stepper | None = None
        self._takes_rate = False
        if not callable(schedule) or makes_scheduler(schedule):
            from hookloop_learning_rate_scheduler._stepper import Stepper  # imports torch

            self._stepper = Stepper(schedule, on, monitor)
        elif monitor is not None:
            message = f"{_WHO}: monitor={monitor!r}, but a function takes no metric."
            raise SettingError(message, fix='leave monitor out, or use schedule="plateau"')
        else:
            self._takes_rate = takes_rate(schedule)
        if on == "epoch" or self._stepper is not None:  # None costs nothing per batch
            self.on_train_batch_begin = None  # type: ignore[method-assign,assignment]
        if on == "epoch" or self._stepper is None:
            self.on_train_batch_end = None  # type: ignore[method-assign,assignment]
        self._reset(0)

    def _reset(self, step: int) -> None:
        self._called: int | None = None  # the step for which the function was asked last
        self._seen = step  # the step after which the schedulers were stepped last
        self._used: float | None = None  # the rate of the last step, where the next is set already
        self._waits = False  # for the state of an earlier run, which may not have had this callback

    # -- hooks -----------------------------------------------------------------------------

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        _ = self.loop.lr  # a loop without an optimizer is refused now, not after an epoch
        if self.on == "batch" and not self.loop.supports("batch_hooks"):
            message = f"{_WHO}: on='batch', but {self.loop.host} has no hooks of batches."
            raise CapabilityError(message, fix="on='epoch'")
        if self._stepper is not None and not self.loop.supports("optimizer"):
            message = f"{_WHO}: a scheduler of torch needs an optimizer of torch, which "
            message += f"{self.loop.host} does not have."
            raise CapabilityError(message, fix="schedule= a function of the epoch")
        self._reset(self.loop.step)
        if self._stepper is not None:
            self._stepper.start(self.loop)
            self._waits = self.loop.resumed

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.loop.pending_state is not None:
            return  # an epoch that goes on in its middle: its rate comes with the state
        self._used = None
        if self._stepper is None and self.on == "batch":
            return  # said with the first batch, where the rate is known
        if self._stepper is None:
            self._set(epoch, f"epoch {epoch}")
        self._start_afresh()
        self._say(epoch)

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        step = self.loop.step
        if step == self._called:  # a further micro-batch of one optimizer step
            return
        self._called = step
        self._set(step, f"step {step}")
        if not batch:
            self._say(self.loop.epoch or 0)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._start_afresh()
        if self._stepper is not None and self.loop.step != self._seen:
            self._seen = self.loop.step
            self._used = self.loop.lr
            self._stepper.step(self.loop, {})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Both in one hook, as a decider: the metric may be of another callback, and the loggers
        # find the rate that was in force during the epoch.
        logs = {} if logs is None else logs
        if self.on_train_batch_end is not None:
            self.on_train_batch_end(-1)  # the step of a window that the end of the epoch has cut
        logs.setdefault("lr", self.loop.lr if self._used is None else self._used)
        if self._stepper is not None and self.on == "epoch":
            self._stepper.step(self.loop, logs)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._stepper is not None:
            self._stepper.finish()

    # -- inside ------------------------------------------------------------------------------

    def _set(self, count: int, when: str) -> None:
        schedule: Any = self.schedule
        present = self.loop.lr
        rate = rate_of(schedule(count, present) if self._takes_rate else schedule(count), when)
        # Who is given the rate and does not raise it builds on what others have set.
        builds_on = self._takes_rate and rate <= present
        self.loop.set_lr(rate, by=_WHO, relative=builds_on)

    def _start_afresh(self) -> None:
        """Begin with the rates of an earlier run, if that run did not have this callback."""
        if self._waits and self._stepper is not None:
            self._waits = False
            self._stepper.start(self.loop)

    def _say(self, epoch: int) -> None:
        if self.verbose:
            rate = f"{self.loop.lr:.6g}"
            self.loop.message(
                f"Epoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}."
            )

    def state_dict(self) -> dict[str, Any]:
        return {
            "called": self._called,
            "seen": self._seen,
            "used": self._used,
            "stepper": self._stepper.state_dict() if self._stepper is not None else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._called, self._seen, self._used = state["called"], state["seen"], state["used"]
        self._waits = False
        if self._stepper is not None:
            self._stepper.load_state_dict(state["stepper"])


def _refuse_others(schedule: object) -> None:
    from torch.optim.lr_scheduler import LRScheduler  # here, so that help need not wait for it

    if not (isinstance(schedule, str | LRScheduler) or callable(schedule)):
        message = f"{_WHO}: schedule={schedule!r} is a {type(schedule).__name__}."
        raise SettingError(message, fix='pass a function of the epoch, or "cosine:T_max=10"')
