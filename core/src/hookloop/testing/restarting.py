"""Checks of state: that it survives being saved, and that a resumed run goes on exactly."""

from __future__ import annotations

import math
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hookloop.callback import Callback
from hookloop.checkpoints import save_state
from hookloop.describe import class_of
from hookloop.hookspecs import hookimpl
from hookloop.testing.faults import Planted
from hookloop.testing.kit import TRAINED, Check, check, fail, stopped_at_once
from hookloop.testing.remembered import differing, remembered
from hookloop.testing.runs import Outcome, outcome, require_same, same, short
from hookloop.testing.subject import Subject
from hookloop.testing.tiny import TinyLoop
from hookloop.testing.written import own_folder

EPOCHS = 4


#: A point at which a run can be saved: an epoch, and a batch of it or, for its end, infinity.
Position = tuple[int, float]
_END = math.inf


class _Saver(Callback):
    """Saves the run at one position, and breaks it off at another; notes which it reaches.

    Without arguments, as those are settings, which are saved too.
    """

    name = "kit_saver"
    observer = True

    def __init__(self) -> None:
        self.reached: list[Position] = []
        self.path: Path | None = None
        self.save_at = self.break_at = (-1, _END)

    @hookimpl(trylast=True)
    def on_batch_checkpoint(self, loop: Any, batch: int) -> None:
        self._arrive(loop, (loop.epoch, batch))

    @hookimpl(trylast=True)
    def on_epoch_checkpoint(self, loop: Any, epoch: int) -> None:
        self._arrive(loop, (epoch, _END))

    def _arrive(self, loop: Any, position: Position) -> None:
        self.reached.append(position)
        if self.path is not None and position == self.save_at:
            save_state(self.path, loop.state_dict())
        if position == self.break_at:
            raise Planted


@check(*TRAINED, applies=lambda subject: hasattr(class_of(subject.factory), "state_dict"))
def state_round_trips(subject: Subject, folder: Path) -> None:
    """Its state survives `torch.load(weights_only=True)`, and asking for it changes nothing."""
    callback = subject.make(folder)
    tiny = TinyLoop()
    tiny.fit([callback])
    state = callback.state_dict()
    if not same(state, callback.state_dict()):
        message = "Asked twice in a row, state_dict() gives two different things."
        raise fail(message, fix="let state_dict() only read")
    torch.save(state, folder / "state.pt")
    try:
        loaded = torch.load(folder / "state.pt", weights_only=True)
    except Exception as error:
        message = f"Its state cannot be loaded again: {str(error).partition(chr(10))[0]}"
        raise fail(message, fix="keep plain data and tensors in state_dict()") from error
    _require_restored(subject.make(folder), loaded)


def _require_restored(fresh: Any, loaded: Any) -> None:
    """Put a state into an instance whose run begins, as a host does, and take it again."""
    given = deepcopy(loaded)
    found: list[Any] = []

    class Restoring(Callback):
        @hookimpl(trylast=True)
        def on_train_begin(self) -> None:
            fresh.load_state_dict(loaded)
            found.append(deepcopy(fresh.state_dict()))
            raise Planted

    with suppress(Planted):
        TinyLoop().fit([fresh, Restoring()])
    if not same(loaded, given):
        message = "load_state_dict() changes what it is given."
        raise fail(message, fix="copy what changes later")
    if not same(found[0], given):
        message = f"It was given the state {given}, and gives {found[0]} then."
        raise fail(message, fix="put all of state_dict() back in load_state_dict()")


@check("is_deterministic")
def resumes_exactly(subject: Subject, folder: Path) -> None:
    """A run that broke off after an epoch, or in one, and is resumed, ends the same, files too."""
    with own_folder(folder) as place:
        whole = _run(subject, place)
    for latest, where in (((1, _END), "between epochs"), ((1, 1), "inside an epoch")):
        saver = _Saver()
        saver.path = folder / f"{where}.pt"
        saver.save_at, saver.break_at = _save_and_break(whole.reached, latest)
        with own_folder(folder) as place:
            with suppress(Planted):
                TinyLoop(epochs=EPOCHS).fit([subject.make(place), saver])
            resumed = _run(subject, place, resume=saver.path)
        require_same(
            whole.outcome,
            resumed.outcome,
            subject.varying,
            f"Resumed {where}, the run does not end as the uninterrupted one",
            "keep all that changes during a run in state_dict(), and when it is resumed take "
            "back what its files say of later batches; or name them in `varies`",
        )
        _require_remembered(subject, folder, whole, resumed, where)


def _save_and_break(reached: list[Position], latest: Position) -> tuple[Position, Position]:
    """Choose where to save a run and, some batches on, to break it off.

    Args:
        reached: Where the uninterrupted run could be saved, which ends early if it is stopped.
        latest: Where to save, at the end of an epoch or not; before, if it does not come so far.
    """
    alike = [one for one in reached if (one[1] == _END) == (latest[1] == _END)]
    if not alike:
        raise stopped_at_once("it can be saved")
    save_at = max([one for one in alike[:-1] if one <= latest] or alike[:1])
    return save_at, max(one for one in reached if one <= (2, 1))


@dataclass(frozen=True)
class _Run:
    outcome: Outcome
    remembered: dict[str, Any]
    reached: list[Position]


def _run(subject: Subject, folder: Path, **options: Any) -> _Run:
    callback, tiny = subject.make(folder), TinyLoop(epochs=EPOCHS)
    saver = _Saver()  # saves nothing, so that both runs have one
    found = outcome(tiny, callback, folder, tiny.fit([callback, saver], **options))
    return _Run(found, remembered(callback), saver.reached)


def _require_remembered(
    subject: Subject, folder: Path, whole: _Run, resumed: _Run, where: str
) -> None:
    """Raise if a restart loses a number, though it has not made a difference to this run yet.

    As with a count of epochs without improvement, which comes to bear in longer runs only.
    """
    lost = differing(whole.remembered, resumed.remembered)
    if set(lost) <= subject.varying:
        return
    with own_folder(folder) as place:
        again = _run(subject, place)
    chance = {*differing(whole.remembered, again.remembered), *subject.varying}
    told = [
        f"{name} is {short(whole.remembered[name])}, then {short(resumed.remembered[name])}"
        for name in lost
        if name not in chance
    ]
    if told:
        message = f"Resumed {where}, it does not remember what the uninterrupted run does: "
        fix = (
            "save it in state_dict(), and put it back in load_state_dict(); what is for one "
            "process only set back in on_train_end, or name it in `varies`"
        )
        raise fail(message + "; ".join(told[:3]), fix=fix)


CHECKS: tuple[Check, ...] = (state_round_trips, resumes_exactly)
