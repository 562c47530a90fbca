"""model_checkpoint: save the model, or the whole state of the run, while it trains."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, ClassVar, Literal

from hookloop import Callback, Logs, files
from hookloop.copying import Snapshot
from hookloop.errors import HookloopError, warn
from hookloop.monitor import Monitor
from hookloop.saving import Failures, Trigger, finish, read_frequency, warn_of_little_room
from hookloop.templates import PathTemplate
from hookloop_model_checkpoint import _checks, _file
from hookloop_model_checkpoint import hookspecs as _hookspecs
from hookloop_model_checkpoint._file import shown
from hookloop_model_checkpoint._keep import Kept
from hookloop_model_checkpoint._saving import Saving

__all__ = ["ModelCheckpoint"]
__version__ = "0.1.0"


class ModelCheckpoint(Callback):
    """Saves the model, or the whole state of the run, while it trains.

    Args:
        filepath: Where to, with fields such as ``{epoch:02d}`` or ``{val_loss:.2f}``. A file that
            ends in ``.safetensors``, ``.weights.pt`` or ``.weights.h5`` holds weights only.
        monitor: Name of the metric that ``save_best_only`` and ``keep_best`` compare.
        verbose: 1 says when it saves, and when it does not.
        save_best_only: Whether to save only when the metric has improved.
        save_weights_only: Whether to save the weights alone, whatever the path ends in.
        mode: ``"min"``, ``"max"``, or ``"auto"`` to tell from the metric.
        save_freq: ``"epoch"``, a number of batches, or words: ``"2 epochs"``, ``"500 steps"`` of
            the optimizer, ``"10 min"``.
        initial_value_threshold: Value that the metric has to beat from the start.
        period: Older name: save every so many epochs.
        keep_last: How many of the newest files are kept; older ones of this run are deleted.
        keep_best: How many of the best files are kept; others of this run are deleted.
        async_save: Whether to write in the background, from a copy.
        on_save_error: ``"raise"`` ends the run if a file cannot be written, ``"warn"`` goes on.
        options: Refused: TensorFlow's alone.
        load_weights_on_restart: Refused: TensorFlow's alone.

    Attributes:
        best: The best value so far, None before the first.
        save_weights_only: Whether the files hold weights alone, by setting or by suffix.
        clock: What measures ``save_freq`` in time, in seconds.

    Raises:
        SettingError: For a setting that makes no sense.
        TemplateError: For a path that could never be formatted.
    """

    ranks = "zero"
    hookspecs: ClassVar[ModuleType] = _hookspecs
    clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: bool | int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: int | str = "epoch",
        initial_value_threshold: float | None = None,
        *,
        period: int | None = None,
        keep_last: int | None = None,
        keep_best: int | None = None,
        async_save: bool = True,
        on_save_error: Literal["raise", "warn"] = "raise",
        options: Any = None,
        load_weights_on_restart: Any = None,
    ) -> None:
        self.filepath = os.fspath(filepath)
        self.monitor = monitor
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only or _file.holds_weights_only(self.filepath)
        self.mode = mode
        self.save_freq = save_freq
        self.initial_value_threshold = initial_value_threshold
        self.period = period
        self.keep_last = keep_last
        self.keep_best = keep_best
        self.async_save = async_save
        self.on_save_error = on_save_error
        amount, unit = read_frequency(save_freq, period, who="model_checkpoint")
        self._template = template = PathTemplate(self.filepath)
        self._one_path = None if template.fields else template.format({}, self._say_missing)
        _checks.refuse_tensorflow(options=options, load_weights_on_restart=load_weights_on_restart)
        _checks.check_settings(self, template.fields, unit)
        if unit == "epochs":
            self.on_batch_checkpoint = None  # type: ignore[method-assign,assignment]  # costs nothing
        self._compares = save_best_only or keep_best is not None
        self._monitor = Monitor(
            monitor, mode=mode, best=initial_value_threshold, who="model_checkpoint"
        )
        self._trigger = Trigger(amount, unit, self.clock)
        self._reset()

    def _reset(self) -> None:
        self._kept = Kept(self.keep_last, self.keep_best)
        self._snapshot = Snapshot(own=self.async_save)
        self._saving: Saving | None = None
        self._failures = Failures(self.on_save_error)
        self._told_missing = False

    @property
    def best(self) -> float | None:
        return self._monitor.best

    # -- hooks -----------------------------------------------------------------------------

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        who = self._own_name()
        _checks.refuse_host(self.loop, who, weights_only=self.save_weights_only)
        self._reset()
        if self._compares:
            loop = self.loop
            self._monitor.start(loop.metrics, loop.reported(), loop.how_to_validate)
        self._trigger.start(self.loop.step)
        place = self._one_path or self.filepath
        _checks.refuse_folder(place)
        files.prepare(place, self.loop, who)
        saves = max((self.keep_last or 0) + (self.keep_best or 0), 1) + 1
        warn_of_little_room(place, self.loop, saves, weights_only=self.save_weights_only)
        _checks.warn_unknown(self._template, self.loop.params.get("metrics"), who)
        self._heed_older_file()

    def on_batch_checkpoint(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._settle(wait=False)
        if self._trigger.batch_is_due(batch, self.loop.step):
            self._consider((self.loop.epoch or 0) + 1, logs or {}, batch=batch + 1)

    def on_epoch_checkpoint(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._settle(wait=False)
        if self._trigger.epoch_is_due():
            self._consider(epoch + 1, logs or {})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        try:
            self._settle(wait=True)
        finally:
            self._snapshot = Snapshot(own=self.async_save)  # gives its memory back
            if self._compares:
                self._monitor.finish()
            self._failures.tell(self.loop, self._own_name())

    # -- deciding ----------------------------------------------------------------------------

    def _consider(self, epoch: int, logs: Mapping[str, Any], **counters: int) -> None:
        """Save, if what is there now is worth it."""
        if self.loop.failed:  # nobody wants the weights of a run that went wrong
            return
        value = self._monitor.value(logs) if self._compares else None
        if value is None and self._compares and (self.save_best_only or not self.keep_last):
            return
        self._settle(wait=True)  # if it failed, the best value is that of an older file
        path = self._path(logs, {"epoch": epoch, "step": self.loop.step, **counters})
        if self._is_wanted(path, value):
            self._save(path, logs, epoch, value)
        elif self.verbose:
            self.loop.message(f"Epoch {epoch}: {self.monitor} {self._shortcoming()}")

    def _shortcoming(self) -> str:
        if self.save_best_only:
            return f"did not improve from {shown(self.best)}"
        return f"is not among the best {self.keep_best}"

    def _is_wanted(self, path: str, value: float | None) -> bool:
        if self.save_best_only and value is not None:
            return self._monitor.beats(value, self.best)
        return self._kept.admits(path, value, self._monitor)

    def _path(self, logs: Mapping[str, Any], counters: Mapping[str, int]) -> str:
        values = Logs()  # reads no value that the template does not name
        values.update(logs, counters)
        return self._template.format(values, self._say_missing)

    def _say_missing(self, sentence: str) -> None:
        if not self._told_missing:
            self._told_missing = True
            warn(f"{self._own_name()}: {sentence}")

    # -- saving ------------------------------------------------------------------------------

    def _save(self, path: str, logs: Mapping[str, Any], epoch: int, value: float | None) -> None:
        """Copy the state, into memory that no earlier save is using, and have it written."""
        if self.verbose:
            self.loop.message(f"Epoch {epoch}: {self._reason(value)}saving model to {path}")
        before = self._decided()
        if value is not None:
            self._monitor.improved(value)
        self._kept.add(path, epoch, value, self._monitor)
        try:
            whole = self.model.state_dict() if self.save_weights_only else self.loop.state_dict()
            state = self._snapshot.copy(whole)
        except HookloopError as error:
            self._fail(error, path, before)
            return
        job = partial(_file.write, path, state, self.monitor, value, list(self._kept.doomed))
        begin = files.background if self.async_save else files.at_once
        self._saving = Saving(path, logs, before, begin(job))
        if not self.async_save:
            self._settle(wait=True)

    def _reason(self, value: float | None) -> str:
        if not self.save_best_only or value is None:
            return ""
        return f"{self.monitor} improved from {shown(self.best)} to {shown(value)}, "

    def _settle(self, *, wait: bool) -> None:
        """Take note of how the last save went, if it is done or is to be waited for."""
        saving = self._saving
        if saving is None or not (wait or saving.written.done()):
            return
        try:
            what = f"{self._own_name()}: {saving.path}"
            self._kept.doomed = finish(saving.written, self.loop.message, what)
        except Exception as error:
            self._saving = None
            self._fail(error, saving.path, saving.before)
            return
        self._saving = None
        self.loop.call("on_checkpoint_saved", path=saving.path, logs=saving.logs)

    def _fail(self, error: Exception, path: str, before: Mapping[str, Any]) -> None:
        """Go back to what is true on disk, and report a save that failed."""
        self._load_decided(before)
        self._failures.add(error, self._own_name(), path)

    # -- before the run ------------------------------------------------------------------------

    def _own_name(self) -> str:
        return self.loop.name_of(self)

    def _heed_older_file(self) -> None:
        """Take the best value from the file that is there already, so that no worse replaces it.

        The file is right where saved state is not: that may have been taken just before it was
        replaced, or the process may have died just before that.
        """
        path = self._one_path
        if not self.save_best_only or path is None or not os.path.exists(path):
            return
        value = _file.recorded(path, self.monitor)
        if value is not None:
            self._monitor.best = self.initial_value_threshold
            self._monitor.improved(value)
        if self.loop is not None and not self.loop.resumed:
            said = _file.older_file(path, self.monitor, value)
            self.loop.message(f"{self._own_name()}: {said}")

    # -- state ---------------------------------------------------------------------------------

    def _decided(self) -> dict[str, Any]:
        return {"monitor": self._monitor.state_dict(), "kept": self._kept.state_dict()}

    def _load_decided(self, state: Mapping[str, Any]) -> None:
        self._monitor.load_state_dict(state["monitor"])
        self._kept.load_state_dict(state["kept"])

    def state_dict(self) -> dict[str, Any]:
        return {**self._decided(), "trigger": self._trigger.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        _checks.refuse_foreign(self._template, state["kept"])
        self._load_decided(state)
        self._kept.forget(os.path.exists)
        self._trigger.load_state_dict(state["trigger"])
        self._heed_older_file()
