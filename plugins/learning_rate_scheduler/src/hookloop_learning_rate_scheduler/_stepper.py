"""Schedulers of torch in a run: making them, stepping them, and their state as plain data."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from hookloop.errors import SettingError
from hookloop.monitor import Monitor
from hookloop.plain import made_plain, restored
from hookloop.soundness import alike
from hookloop_learning_rate_scheduler._names import forget_base_rates, make, parse

if TYPE_CHECKING:
    from hookloop import Loop

_WHO = "learning_rate_scheduler"
#: These compute the rate from their count alone; the others from the rate that is in force.
_ABSOLUTE = (
    lr_scheduler.LambdaLR,
    lr_scheduler.OneCycleLR,
    lr_scheduler.CyclicLR,
    lr_scheduler.CosineAnnealingWarmRestarts,
    lr_scheduler.SequentialLR,
)


class Stepper:
    """Schedulers of torch that are stepped together, one for each optimizer.

    Args:
        chosen: Name with settings, an instance, or a callable that makes one of an optimizer.
        on: ``"epoch"`` or ``"batch"``: how often they are stepped.
        monitor: Metric to step on, or None.

    Attributes:
        schedulers: Those of the run; empty before the first.

    Raises:
        SettingError: For a name, settings or a metric that make no sense.
    """

    def __init__(
        self, chosen: str | LRScheduler | Callable[[Optimizer], Any], on: str, monitor: str | None
    ) -> None:
        self.schedulers: list[LRScheduler] = []
        self._on, self._wanted = on, monitor
        self._given = chosen if isinstance(chosen, LRScheduler) else None
        self._factory = chosen if callable(chosen) else None
        self._kind: type[LRScheduler] | None = None
        self._settings: dict[str, Any] = {}
        if isinstance(chosen, str):
            self._kind, self._settings = parse(chosen)
            self._takes_metric(self._kind)
        elif self._given is not None:
            self._takes_metric(type(self._given))
        # A plateau by name that is not told which way is better finds it out as monitors do.
        self._asks_mode = self._kind is ReduceLROnPlateau and "mode" not in self._settings
        mode = "auto" if self._asks_mode else "min"
        self._monitor = Monitor(monitor or "val_loss", mode=mode, who=_WHO)
        self._by_metric = self._stepped = False
        self._left_over = 0

    def start(self, loop: Loop) -> None:
        """Make the schedulers of a run, or take the one that was given.

        Raises:
            SettingError: If one does not fit the optimizers of the run.
        """
        self._stepped, self._left_over = False, 0
        self._monitor.start(loop.metrics, how_to_validate=loop.how_to_validate)
        if self._given is None:
            self.schedulers = [self._made(optimizer) for optimizer in loop.optimizers]
        else:
            self.schedulers = [self._given]
            if not any(self._given.optimizer is one for one in loop.optimizers):
                message = f"{_WHO}: {type(self._given).__name__} is of another optimizer."
                raise SettingError(
                    message, fix="make it with the optimizer of this run, or give it by name"
                )
        by_metric = [self._takes_metric(type(one)) for one in self.schedulers]  # checks each
        self._by_metric = any(by_metric)

    def _made(self, optimizer: Optimizer) -> LRScheduler:
        if self._kind is not None:
            mode = {"mode": self._monitor.direction} if self._asks_mode else {}
            return make(self._kind, {**self._settings, **mode}, optimizer)
        if self.schedulers:  # of an earlier run, made here
            forget_base_rates(optimizer)
        scheduler = self._factory(optimizer) if self._factory is not None else None
        if not isinstance(scheduler, LRScheduler):
            message = f"{_WHO}: the schedule made a {type(scheduler).__name__} of the optimizer."
            raise SettingError(
                message, fix="return a scheduler of torch, or name it schedule(epoch)"
            )
        return scheduler

    def _takes_metric(self, kind: type[LRScheduler]) -> bool:
        plateau = issubclass(kind, ReduceLROnPlateau)
        if not plateau and self._wanted is None:
            return False
        if not plateau and "epoch" in inspect.signature(kind.step).parameters:
            message = f"{_WHO}: monitor={self._wanted!r}, but {kind.__name__} takes no metric."
            raise SettingError(message, fix='leave monitor out, or use schedule="plateau"')
        if self._on == "batch":
            message = f"{_WHO}: {kind.__name__} takes a metric of the epoch, but on='batch'."
            raise SettingError(message, fix="on='epoch'")
        return True

    def step(self, loop: Loop, logs: Mapping[str, Any]) -> None:
        """Have them set the rates for the next epoch, or the next optimizer step.

        Args:
            loop: Is told who sets the rates.
            logs: Of the epoch; where the metric is found. Without it nothing happens.
        """
        value = self._monitor.value(logs) if self._by_metric else None
        if self._by_metric and value is None:
            return
        arguments: list[Any] = [] if value is None else [value]
        with loop.setting_lr(by=_WHO, relative=self._is_relative()), self._no_false_warning():
            for scheduler in self.schedulers:
                if not self._is_over(scheduler, loop):
                    scheduler.step(*arguments)

    def finish(self) -> None:
        """End a run: say again if the metric never came."""
        if self._by_metric:
            self._monitor.finish()

    def _is_relative(self) -> bool:
        return not any(isinstance(one, _ABSOLUTE) for one in self.schedulers)

    def _is_over(self, scheduler: LRScheduler, loop: Loop) -> bool:
        """Tell whether a cycle has been walked through: one more step is an error of torch."""
        if not isinstance(scheduler, lr_scheduler.OneCycleLR):
            return False
        if scheduler.last_epoch + 1 < scheduler.total_steps:
            return False
        self._left_over += 1
        if self._left_over == 2:  # the first is the step after the last, which everybody has
            loop.message(
                f"{_WHO}: the {scheduler.total_steps} steps of the cycle are over; the learning "
                f"rate stays at {loop.lr:.6g}.\nfix: total_steps= the steps of the whole run"
            )
        return True

    @contextmanager
    def _no_false_warning(self) -> Iterator[None]:
        """Keep torch from asking for an optimizer step where a stop or a skip has left none."""
        if self._stepped:
            yield
            return
        self._stepped = True
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            yield

    def state_dict(self) -> dict[str, Any]:
        return {
            "schedulers": [made_plain(one.state_dict()) for one in self.schedulers],
            "monitor": self._monitor.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            if not alike(made_plain(scheduler.state_dict()), saved):
                raise ValueError(f"what a {type(scheduler).__name__} held is of another kind")
        self._monitor.load_state_dict(state["monitor"])
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(restored(saved))
