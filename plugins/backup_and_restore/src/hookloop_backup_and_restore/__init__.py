"""backup_and_restore: save the run while it trains, and go on where it was interrupted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hookloop import Callback, files, hookimpl
from hookloop.copying import Snapshot
from hookloop.errors import HookloopError, StateError, warn
from hookloop.saving import Failures, Trigger, finish, read_frequency, warn_of_little_room
from hookloop.state import place_of
from hookloop_backup_and_restore import _checks, _states

__all__ = ["BackupAndRestore"]
__version__ = "0.1.0"


class BackupAndRestore(Callback):
    """Saves the whole run while it trains, and goes on from there when it is started again.

    Args:
        backup_dir: Folder for the saved states; one run at a time has it.
        save_freq: ``"epoch"``, a number of batches, or words: ``"2 epochs"``, ``"500 steps"`` of
            the optimizer, ``"10 min"``.
        double_checkpoint: Accepted: the previous state is kept anyway.
        delete_checkpoint: Whether the states are deleted when the run has finished, or was stopped
            by a callback. After a failure or a signal they stay.
        save_before_preemption: Older name of ``save_on_signals``.
        save_on_exception: Whether an exception saves the last state that could have been saved.
            Needs a copy of the state after every optimizer step.
        save_on_signals: Whether SIGTERM and SIGINT save before the run ends.
        save_on_sigusr1: Whether SIGUSR1 saves at the next checkpoint hook, and the run goes on.
        on_save_error: ``"raise"`` ends the run if a state cannot be written, ``"warn"`` goes on.
        async_save: Whether to write in the background, from a copy.
        keep: How many states are kept.

    Attributes:
        clock: What measures ``save_freq`` in time, in seconds.

    Raises:
        SettingError: For a setting that makes no sense.
    """

    needs = ("state",)
    clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: int | str = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
        *,
        save_before_preemption: bool | None = None,
        save_on_exception: bool = False,
        save_on_signals: bool = True,
        save_on_sigusr1: bool = False,
        on_save_error: Literal["raise", "warn"] = "raise",
        async_save: bool = True,
        keep: int = 2,
    ) -> None:
        self.backup_dir = _checks.folder(backup_dir)
        self.save_freq = save_freq
        self.delete_checkpoint = delete_checkpoint
        self.save_on_exception = save_on_exception
        self.save_on_signals = _checks.on_signals(save_on_signals, save_before_preemption)
        self.save_on_sigusr1 = save_on_sigusr1
        self.save_signals = _checks.usr1() if save_on_sigusr1 else ()
        self.on_save_error = on_save_error
        self.async_save = async_save
        self.keep = keep
        _checks.check_settings(keep, on_save_error, double=double_checkpoint)
        amount, unit = read_frequency(save_freq, who="backup_and_restore")
        if unit == "epochs" and not (self.save_on_signals or save_on_exception or save_on_sigusr1):
            self.on_batch_checkpoint = None  # type: ignore[method-assign,assignment]  # costs nothing
        self._trigger = Trigger(amount, unit, self.clock)
        self._always_looks = unit != "epochs" or save_on_exception
        self._lock: files.Lock | None = None
        self._reset()

    def _reset(self) -> None:
        self._snapshot, self._holding = Snapshot(own=True), Snapshot(own=True)
        self._held: Any = None
        self._saving: Future[Path] | None = None
        self._saved: tuple[int, int | None] | None = None
        self._answered = 0  # of the signals that ask for a save
        self._failures = Failures(self.on_save_error)
        self._damaged: list[Path] = []

    # -- hooks -------------------------------------------------------------------------------------

    @hookimpl(tryfirst=True)
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._reset()
        if self.save_on_sigusr1 and self.loop.saves_asked is None:
            raise _checks.not_heeded(self._own_name(), self.loop.host)
        files.prepare(self.backup_dir / "state-*", self.loop, self._own_name())
        self._lock = files.Lock(self.backup_dir)
        self._lock.acquire()
        self._lock.sweep("state-*")
        self._restore()
        new = self.keep + 1 - len(_states.found(self.backup_dir))
        warn_of_little_room(self.backup_dir, self.loop, new)
        self._trigger.start(self.loop.step, self.loop.start[1])

    @hookimpl(trylast=True)
    def on_batch_checkpoint(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        loop, busy = self.loop, self._always_looks or self._saving is not None
        if busy or loop.interrupted or (loop.saves_asked or 0) > self._answered:
            due = self._trigger.batch_is_due(batch, loop.step)
            self._look((loop.epoch or 0, batch), due=due)

    @hookimpl(trylast=True)
    def on_epoch_checkpoint(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._look((epoch, None), due=self._trigger.epoch_is_due())

    def on_exception(self, exception: BaseException) -> None:
        if self._held is not None and not self.loop.failed:
            self._settle(wait=True)
            self._begin(self._held, files.background)

    @hookimpl(trylast=True)
    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        over = False
        try:
            self._settle(wait=True)
            over = self.delete_checkpoint and self.loop.outcome in ("finished", "stopped")
            over = over and not self.loop.interrupted  # by a signal that came after the last epoch
            if over:
                self._delete()
            self._report()
        finally:
            self._snapshot = self._holding = Snapshot(own=True)  # gives their memory back
            self._saving = self._held = None
            if self._lock is not None:
                self._lock.release(delete=over)
                self._lock = None

    # -- restoring ---------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Have the loop go on from the newest state that is intact, if there is any."""
        who, newest = self._own_name(), _states.newest(self.backup_dir)
        self._damaged = list(newest.damaged)
        if newest.state is None:
            if newest.damaged:
                raise _checks.nothing_intact(who, self.backup_dir, newest.damaged)
            return
        for reason in newest.damaged.values():
            self.loop.message(f"{who}: {reason} The state before it is used.")
        where = f"{place_of(newest.state['loop'])}, from {newest.path}"
        if self.loop.resumed and newest.state["loop"]["step"] < self.loop.step:
            self.loop.message(f"{who}: the run is resumed from a later state than {where}.")
            return
        try:
            self.loop.load_state_dict(newest.state)
        except StateError as error:
            raise _checks.of_another_run(
                who, newest.path, self.backup_dir, error
            ) from error.__cause__
        self.loop.message(f"{who}: going on {where}.")

    # -- saving ------------------------------------------------------------------------------------

    def _look(self, place: tuple[int, int | None], *, due: bool) -> None:
        """Save if it is time to, if a signal says that it is the last time, or if one asks.

        Args:
            place: Indices of the epoch, and of the batch unless the epoch has ended.
            due: Whether it is time.
        """
        self._settle(wait=False)
        signalled = self.loop.interrupted and self.save_on_signals
        asked = (self.loop.saves_asked or 0) - self._answered
        if (due or signalled or asked) and place != self._saved:
            self._save(place)
        elif self.save_on_exception:
            self._held = None  # its memory is used again, and half of it would be of two moments
            self._held = self._holding.copy(self.loop.state_dict())
        if asked:
            self._answered += asked
            self._answer(place)

    def _answer(self, place: tuple[int, int | None]) -> None:
        """Say that what SIGUSR1 asked for is done, once it is on disk."""
        self._settle(wait=True)
        if self._saved == place:  # or the run has failed, or the disk
            said = "saved, as SIGUSR1 asks, and training goes on."
            self.loop.message(f"{self._own_name()}: {said}")

    def _save(self, place: tuple[int, int | None]) -> None:
        if self.loop.failed:  # nobody wants to go on from there
            return
        self._settle(wait=True)  # or its memory would be overwritten while it is being written
        self._saved, self._held = place, None
        try:
            state = self.loop.state_dict()
            if self.async_save:
                self._begin(self._snapshot.copy(state), files.background)
            else:
                self._begin(state, files.at_once)
        except HookloopError as error:
            self._fail(error)
        if not self.async_save:
            self._settle(wait=True)

    def _begin(self, state: Mapping[str, Any], begin: Callable[..., Future[Path]]) -> None:
        """Have a state written after all that was given to the writer before.

        So that none is on disk before the files that it speaks of.

        Args:
            state: What to write.
            begin: `files.background` or `files.at_once`.
        """
        if self._lock is not None:
            self._lock.check()
        job = partial(_states.write, self.backup_dir, state, self.keep, list(self._damaged))
        self._saving = begin(job)

    def _settle(self, *, wait: bool) -> None:
        """Take note of how the last save went, if it is done or is to be waited for."""
        saving = self._saving
        if saving is None or not (wait or saving.done()):
            return
        try:  # a second Ctrl+C leaves the waiting, and the end of the run waits for it again
            what = f"{self._own_name()}: a state in {self.backup_dir}"
            finish(saving, self.loop.message, what)
        except Exception as error:
            self._saving = None
            self._fail(error)
        else:
            self._saving, self._damaged = None, []  # those were deleted with it

    def _fail(self, error: Exception) -> None:
        self._saved = None
        self._failures.add(error, self._own_name(), "the run")

    # -- the end -----------------------------------------------------------------------------------

    def _delete(self) -> None:
        try:
            _states.delete(self.backup_dir)
        except OSError as error:
            warn(
                f"{self._own_name()}: the states of this finished run could not be deleted: "
                f"{error}\nfix: delete {self.backup_dir} before the next run",
                RuntimeWarning,
            )

    def _report(self) -> None:
        who = self._own_name()
        self._failures.tell(self.loop, who)
        ended = self.loop.interrupted or self.loop.outcome == "interrupted"
        if ended and _states.found(self.backup_dir):
            self.loop.message(f"{who}: started again, the run goes on from {self.backup_dir}.")

    def _own_name(self) -> str:
        return self.loop.name_of(self)
