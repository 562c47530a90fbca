"""throughput: how fast a run is, and how much of the time it waits for data."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from hookloop import Callback, hookimpl
from hookloop.errors import SettingError

__all__ = ["Throughput"]
__version__ = "0.1.0"

REPORTED = ("samples_per_second", "step_seconds", "waiting")


@dataclass
class Meter:
    """Adds up the time of batches. Knows nothing of a loop, and has no clock.

    Attributes:
        samples: Samples of the batches so far.
        batches: Batches so far.
        waiting: Seconds from the end of a batch to the beginning of the next.
        working: Seconds from the beginning of a batch to its end.
    """

    samples: int = 0
    batches: int = 0
    waiting: float = 0.0
    working: float = 0.0

    def numbers(self) -> dict[str, float]:
        """Give what is reported: nothing, where no time was measured."""
        whole = self.waiting + self.working
        if not self.batches or whole <= 0:
            return {}
        values = (self.samples / whole, self.working / self.batches, self.waiting / whole)
        return dict(zip(REPORTED, values, strict=True))


class Throughput(Callback):
    """Reports how fast every epoch was, and the share of its time that went into waiting for data.

    Args:
        warm_up: Batches at the beginning of every epoch that are not counted.

    Attributes:
        clock: What gives the time, in seconds.

    Raises:
        SettingError: If ``warm_up`` is negative.
    """

    hook_api = 1
    observer = True
    changes: ClassVar[tuple[str, ...]] = ("logs",)
    varies: ClassVar[tuple[str, ...]] = (*REPORTED, "meter")
    clock: Callable[[], float] = staticmethod(time.perf_counter)

    def __init__(self, warm_up: int = 0) -> None:
        if warm_up < 0:
            message = f"throughput: warm_up={warm_up} is negative."
            raise SettingError(message, fix="warm_up=0 or more, in batches")
        self.warm_up = warm_up
        self._start()

    def _start(self) -> None:
        self._meter = Meter()
        self._batch = 0  # of this epoch, those of the warm-up included
        self._began: float | None = None
        self._ended: float | None = None

    def on_train_begin(self) -> None:
        self._start()

    def on_epoch_begin(self) -> None:
        self._start()
        self._ended = self.clock()

    @hookimpl(tryfirst=True)  # what the others do in a batch is work, not waiting
    def on_train_batch_begin(self) -> None:
        self._began = self.clock()
        if self._ended is not None and self._batch >= self.warm_up:
            self._meter.waiting += self._began - self._ended

    @hookimpl(trylast=True)
    def on_train_batch_end(self, logs: Mapping[str, Any]) -> None:
        if self._batch >= self.warm_up:
            self._meter.samples += logs.get("size", 0)
            self._meter.batches += 1
            self._add_work()
        self._batch += 1
        self._ended = self._began = self.clock()

    @hookimpl(trylast=True)
    def on_batch_checkpoint(self) -> None:
        if self._batch > self.warm_up:  # saving is no waiting for data
            self._add_work()
        self._ended = self.clock()

    def _add_work(self) -> None:
        if self._began is not None:
            self._meter.working += self.clock() - self._began

    @hookimpl(tryfirst=True)  # it adds to logs, so it comes before those that decide and record
    def on_epoch_end(self, logs: dict[str, Any]) -> None:
        logs.update(self._meter.numbers())

    def state_dict(self) -> dict[str, Any]:
        return {"meter": asdict(self._meter), "batch": self._batch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._start()  # the time in which nothing ran belongs to no batch
        self._meter, self._batch = Meter(**state["meter"]), int(state["batch"])
