"""progbar_logger: a progress bar in terminals and notebooks, plain lines in files."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Literal, TextIO

from hookloop import BaseLogger, Callback, hookimpl
from hookloop.errors import SettingError
from hookloop.logs import read
from hookloop_progbar_logger._frame import Frame
from hookloop_progbar_logger._meter import Meter
from hookloop_progbar_logger._screen import Screen, choose

__all__ = ["ProgbarLogger"]
__version__ = "0.1.0"


class ProgbarLogger(Callback):
    """Shows how far a run is, how fast, and how good.

    In a terminal and in a notebook it is a bar that is redrawn in place; elsewhere one plain line
    an epoch. The run's ``verbose`` decides: 0 shows nothing, 1 and ``"auto"`` the bar where there
    can be one, 2 the plain lines.

    While an epoch runs, the metrics are its means so far if the run has a `BaseLogger`, else the
    values of the latest batch; at its end they are the logged ones, ``val_*`` included. Values
    are read when the bar is redrawn and at no other time.

    Args:
        count_mode: Whether to count ``"steps"``, that is batches, or ``"samples"``.
        stateful_metrics: Names of metrics whose latest value is shown in place of a mean.
        file: Where to write; by default what ``sys.stdout`` is when the run starts.
        refresh_per_second: How often to redraw at most; above 0, up to 10.

    Raises:
        SettingError: For a setting that makes no sense.
    """

    observer = True
    per_batch = ("reads",)
    clock = staticmethod(time.monotonic)

    def __init__(
        self,
        count_mode: Literal["steps", "samples"] = "steps",
        stateful_metrics: Collection[str] | None = None,
        *,
        file: TextIO | None = None,
        refresh_per_second: float = 10,
    ) -> None:
        if count_mode not in ("steps", "samples"):
            message = f"progbar_logger: count_mode={count_mode!r} is not offered."
            raise SettingError(message, fix="count_mode='steps' or count_mode='samples'")
        if not 0 < refresh_per_second <= 10:
            message = f"progbar_logger: refresh_per_second={refresh_per_second} is out of range."
            raise SettingError(message, fix="choose it above 0, up to 10")
        if isinstance(stateful_metrics, str):
            message = f"progbar_logger: stateful_metrics={stateful_metrics!r} is a single name."
            raise SettingError(message, fix=f"stateful_metrics=[{stateful_metrics!r}]")
        self.count_mode = count_mode
        self.stateful_metrics = frozenset(stateful_metrics or ())
        self.file = file
        self._by_steps = count_mode == "steps"
        self._interval = 1 / refresh_per_second
        self._screen: Screen | None = None
        self._due = float("inf")
        self._live = self._training = False
        self._known: dict[str, int] = {}
        self._averages: BaseLogger | None = None
        self._label = ""
        self._values: dict[str, float] = {}
        self._meter = self._counting = Meter(0.0, None)

    # -- hooks -----------------------------------------------------------------------------------

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._open()
        self._training = True
        callbacks = self.loop.callbacks.values()
        self._averages = next((c for c in callbacks if isinstance(c, BaseLogger)), None)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._begin(self._epoch_label(epoch))

    @hookimpl(trylast=True)  # base_logger has counted the batch, callbacks have added to it
    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Count a batch. Nearly always this is all: no value is read, no object is made."""
        counting = self._counting
        if batch and not counting.done:
            self._go_on_inside(batch)
        if self._by_steps:
            counting.done = batch + 1
        else:
            counting.done += (logs or {}).get("size", 1)
        if self.clock() >= self._due:
            self._draw(logs)

    on_test_batch_end = on_predict_batch_end = on_train_batch_end

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        if not self._training:
            self._open()
            self._begin("Evaluate")
            return
        now = self.clock()
        self._meter.pause(now)
        self._counting = Meter(now, self._known.get("validation") or None)
        if self._live and self._meter.elapsed(now) >= self._interval:
            self._draw(None)  # at once: its first batch may take long

    @hookimpl(trylast=True)
    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if not self._training:
            self._end(logs)
            return
        self._known["validation"] = self._counting.done
        self._counting = self._meter
        self._meter.go_on(self.clock())

    @hookimpl(trylast=True)
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not self.loop.stop_training:
            self._known["training"] = self._meter.done
        self._label = self._label or self._epoch_label(epoch)  # nobody has to say that it begins
        self._finish(logs)

    @hookimpl(trylast=True)
    def on_exception(self, exception: BaseException) -> None:
        self._close()

    @hookimpl(trylast=True)
    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._training = False
        self._close()

    def on_predict_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._open()
        self._begin("Predict")

    @hookimpl(trylast=True)
    def on_predict_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._end(logs)

    def on_message(self, text: str) -> bool | None:
        if self._screen is None:
            return None
        with self._giving_back() as screen:
            screen.say(text)
        return True

    # -- inside ----------------------------------------------------------------------------------

    def _open(self) -> None:
        """Prepare for a run; ``verbose`` and standard output are what they are now."""
        self._screen = choose(self.file, self.params.get("verbose"))
        live = self._screen is not None and self._screen.live
        self._live, self._due = live, self.clock() if live else float("inf")
        self._known, self._averages = {}, None
        self._reset("")

    def _begin(self, label: str) -> None:
        """Begin a bar: of an epoch, an evaluation or a prediction."""
        self._reset(label)
        if self.clock() >= self._due:
            self._draw(None)

    def _reset(self, label: str) -> None:
        self._label, self._values = label, {}
        total = self._total() or self._known.get("training") or None
        self._meter = self._counting = Meter(self.clock(), total)

    def _epoch_label(self, epoch: int) -> str:
        epochs = self.params.get("epochs")
        return f"Epoch {epoch + 1}/{epochs}" if epochs else f"Epoch {epoch + 1}"

    def _total(self) -> Any:
        """Tell how many steps or samples the run announced; None for unknown."""
        steps, samples, size = (self.params.get(k) for k in ("steps", "samples", "batch_size"))
        if self._by_steps:
            return steps
        return min((n for n in (steps and size and steps * size, samples) if n), default=None)

    def _go_on_inside(self, batch: int) -> None:
        """Count what a resumed epoch has done before, as far as that is known."""
        each = 1 if self._by_steps else self.params.get("batch_size") or 0
        self._counting.skip(batch * each)

    def _draw(self, logs: Any) -> None:
        now = self.clock()
        self._due = now + self._interval
        self._counting.mark(now)
        with self._giving_back() as screen:
            if logs and self._counting is self._meter:  # validation leaves those of training
                self._values = self._current(logs)
            screen.show(self._frame(now))

    def _current(self, logs: Mapping[str, Any]) -> dict[str, float]:
        """Read what to show in the middle of an epoch; waits for the device."""
        if self._averages is None:
            return _numbers(logs)
        means = {key: read(mean) for key, mean in self._averages.means().items()}
        return _numbers(means | {key: logs[key] for key in self.stateful_metrics if key in logs})

    def _frame(self, now: float, *, finished: bool = False) -> Frame:
        meter, counting = self._meter, self._counting
        validates = counting is not meter
        return Frame(
            self._label,
            meter.done,
            (meter.done or None) if finished and not meter.total else meter.total,
            "batch" if self._by_steps else "sample",
            meter.elapsed(now),
            counting.left(now),
            None if validates else meter.rate(now, overall=finished),
            f"validation {counting}" if validates else "",
            self._values,
            finished,
        )

    def _finish(self, logs: Mapping[str, Any] | None) -> None:
        """Show a bar for the last time, with exactly what was logged."""
        if self._screen is not None:
            with self._giving_back() as screen:
                self._values = _numbers(logs or {})
                screen.keep(self._frame(self.clock(), finished=True))
        self._reset("")

    def _end(self, logs: Mapping[str, Any] | None) -> None:
        """End an evaluation or prediction; one that failed keeps the last that was shown."""
        if self.loop.outcome not in ("failed", "interrupted"):
            self._finish(logs)
        self._close()

    def _close(self) -> None:
        screen, self._screen, self._due = self._screen, None, float("inf")
        self._live = False
        if screen is not None:
            screen.close()

    @contextmanager
    def _giving_back(self) -> Iterator[Screen]:
        """Give the terminal back if showing fails: this callback gets no hook after that."""
        screen = self._screen
        assert screen is not None  # noqa: S101
        try:
            yield screen
        except BaseException:
            with suppress(Exception):
                self._close()
            raise


def _numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    return {k: v for k, v in logs.items() if k != "size" and isinstance(v, int | float)}
