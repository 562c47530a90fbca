"""For callbacks that save: when it is time, and what becomes of saves that fail or take long."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hookloop import reading
from hookloop.errors import HookloopError, SettingError, did_you_mean, warn, without_fix
from hookloop.plain import bytes_of

if TYPE_CHECKING:
    from hookloop.loop import Loop

#: Seconds after which it is said that a file is still being written.
PATIENCE = 10.0
_WORDS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")
#: Each unit's singular and plural: what is counted, and how many of it one is.
_UNITS = {
    **dict.fromkeys(("epoch", "epochs"), ("epochs", 1)),
    **dict.fromkeys(("batch", "batches"), ("batches", 1)),
    **dict.fromkeys(("step", "steps"), ("steps", 1)),
    **dict.fromkeys(("s", "sec", "second", "seconds"), ("seconds", 1)),
    **dict.fromkeys(("min", "minute", "minutes"), ("seconds", 60)),
    **dict.fromkeys(("h", "hour", "hours"), ("seconds", 3600)),
}
_FIX = "save_freq='epoch', a number of batches, or words: '2 epochs', '500 steps', '10 min'"


def read_frequency(
    save_freq: int | str, period: int | None = None, *, who: str
) -> tuple[float, str]:
    """Read how often to save.

    Args:
        save_freq: ``"epoch"``, a number of batches, or a number with a unit.
        period: The older name: every so many epochs.
        who: The callback that asks, for errors.

    Returns:
        How many, of ``"epochs"``, ``"batches"`` (micro-batches), ``"steps"`` (of the optimizer)
        or ``"seconds"``.

    Raises:
        SettingError: If it cannot be read, or is not positive.
    """
    if period is not None:
        refuse_unless_positive(who, "period", period, "period=N, in epochs")
        if save_freq != "epoch":
            message = f"{who}: both period={period} and save_freq={save_freq!r} are set."
            raise SettingError(
                message, fix=f"leave period out, or write save_freq='{period} epochs'"
            )
        return period, "epochs"
    if save_freq == "epoch":
        return 1, "epochs"
    if isinstance(save_freq, str):
        return _read_words(save_freq, who)
    refuse_unless_positive(who, "save_freq", save_freq, _FIX)
    return save_freq, "batches"


def refuse_unless_positive(who: str, name: str, value: Any, fix: str) -> None:
    """Refuse a setting that is no whole number from 1 up.

    Args:
        who: Whose setting it is.
        name: Its name.
        value: What it is set to.
        fix: What to write.

    Raises:
        SettingError: Saying so.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        message = f"{who}: {name}={value!r} is no positive whole number."
        raise SettingError(message, fix=fix)


def refuse_unless_policy(who: str, on_save_error: Any) -> None:
    """Refuse a policy that `Failures` does not know.

    Raises:
        SettingError: Saying so.
    """
    if on_save_error not in ("raise", "warn"):
        message = f"{who}: on_save_error={on_save_error!r} is not offered."
        raise SettingError(message, fix="on_save_error='raise' or on_save_error='warn'")


def _read_words(text: str, who: str) -> tuple[float, str]:
    found = _WORDS.fullmatch(text)
    if found is None:
        raise SettingError(f"{who}: save_freq={text!r} cannot be read.", fix=_FIX)
    amount, word = float(found[1]), found[2].lower()
    if word not in _UNITS:
        guess = did_you_mean(word, _UNITS)
        raise SettingError(f"{who}: save_freq={text!r}: no unit.{guess}", fix=_FIX)
    unit, worth = _UNITS[word]
    if not 0 < amount * worth < math.inf or (unit != "seconds" and not amount.is_integer()):
        message = f"{who}: save_freq={text!r} is no positive number of {unit}."
        raise SettingError(message, fix=_FIX)
    return amount * worth, unit


@dataclass
class Trigger:
    """Counts since the last time, and says when it is time again. Knows nothing of a loop.

    Attributes:
        amount: How many of the unit lie between two times.
        unit: ``"epochs"``, ``"batches"``, ``"steps"`` or ``"seconds"``.
        clock: Gives the time, in seconds.
        since: Epochs or batches since the last time.
        batch: Index of the last batch seen in this epoch; -1 before its first.
        step: Optimizer step of the last time.
        began: Clock at the last time; None before the run.
    """

    amount: float
    unit: str
    clock: Callable[[], float]
    since: int = 0
    batch: int = -1
    step: int = 0
    began: float | None = None

    def start(self, step: int, batch: int = 0) -> None:
        """Begin to count, at the start of a run.

        Args:
            step: Optimizer steps so far.
            batch: Index of the batch that comes next in its epoch.
        """
        self.since, self.batch, self.step, self.began = 0, batch - 1, step, self.clock()

    def epoch_is_due(self) -> bool:
        """Count an epoch, and tell whether it is time."""
        self.batch = -1
        if self.unit == "epochs":
            self.since += 1
            return self._is_due(self.since)
        return self.unit == "seconds" and self._is_due(self._elapsed())

    def batch_is_due(self, batch: int, step: int) -> bool:
        """Count a batch, and tell whether it is time.

        Args:
            batch: Index of the micro-batch in its epoch. With gradient accumulation it jumps by
                the length of a window; all batches of the window count. The same one again, as
                after a signal, does not.
            step: Optimizer steps of the whole run.
        """
        if self.unit == "batches":
            self.since += batch - self.batch if batch >= self.batch else batch + 1
            self.batch = batch
            return self._is_due(self.since)
        if self.unit == "steps":
            due = self._is_due(step - self.step)
            self.step = step if due else self.step
            return due
        return self.unit == "seconds" and self._is_due(self._elapsed())

    def _is_due(self, count: float) -> bool:
        if count < self.amount:
            return False
        self.since = 0
        if self.unit == "seconds":
            self.began = self.clock()
        return True

    def _elapsed(self) -> float:
        return 0.0 if self.began is None else self.clock() - self.began

    def state_dict(self) -> dict[str, Any]:
        elapsed = self._elapsed() if self.unit == "seconds" else 0.0
        return {"since": self.since, "batch": self.batch, "step": self.step, "elapsed": elapsed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.since, self.batch = int(state["since"]), int(state["batch"])
        self.step, self.began = int(state["step"]), self.clock() - float(state["elapsed"])


def warn_of_little_room(
    path: str | os.PathLike[str], loop: Loop, saves: int, *, weights_only: bool = False
) -> None:
    """Say before training if a disk has no room for what will be saved there.

    How large that is can only be guessed before there is an optimizer's state: as large as Adam's,
    which has two values for each weight.

    Args:
        path: Where to.
        loop: The run.
        saves: How many of them will be there at once, the one that is being written included.
        weights_only: Whether they have no optimizer in them.
    """
    model: Any = loop.model
    weights = bytes_of(model.state_dict()) if hasattr(model, "state_dict") else 0
    size = weights * (3 if loop.optimizers and not weights_only else 1)
    room = reading.free(path)
    if room < size * saves:
        warn(
            f"{os.fspath(path)}: {room:,} bytes are free there, and up to {size * saves:,} will be "
            f"needed, for {saves} saves of {size:,}.\nfix: make room, or save fewer or elsewhere",
            RuntimeWarning,
        )


@dataclass
class Failures:
    """What becomes of saves that fail: each is raised, or counted and told.

    Attributes:
        policy: ``"raise"`` or ``"warn"``; nothing but a failure to write is ever only told.
        count: How many were told.
        last: What was wrong with the last.
    """

    policy: str
    count: int = 0
    last: str = ""

    def add(self, error: Exception, who: str, what: str) -> None:
        """Raise an error of a callback that was saving something, or tell it and go on."""
        if self.policy == "raise" or not isinstance(error, OSError | HookloopError):
            error.add_note(f"while {who} was saving {what}; what was saved before is intact")
            raise error
        self.count += 1
        self.last = without_fix(error)
        warn(f"{who}: {what} was not saved, and training goes on: {error}", RuntimeWarning)

    def tell(self, loop: Loop, who: str) -> None:
        """Say at the end of a run what was not saved, if anything."""
        if self.count:
            loop.message(f"{who}: saves that failed: {self.count}; the last: {self.last}")


def finish(job: Future[Any], say: Callable[[str], Any], what: str) -> Any:
    """Wait for a job of the writer; if that takes long it is said, once.

    There is no bound: a checkpoint that was asked for is not dropped. Two Ctrl+C end the run.

    Args:
        job: What `hookloop.files.background` gave.
        say: Shows a line to the user.
        what: What is being written.

    Returns:
        What the job returned; what it raised is raised.
    """
    try:
        return job.result(PATIENCE)
    except TimeoutError:
        if job.done():  # it is the job's own: disks have such errors too
            raise
    say(f"{what} is still being written after {PATIENCE:g} s, and waited for.")
    return job.result()
