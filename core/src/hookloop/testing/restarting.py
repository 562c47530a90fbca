"""Checks of state: that it survives being saved, and that a resumed run goes on exactly."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from hookloop.callback import Callback
from hookloop.checkpoints import save_state
from hookloop.describe import class_of
from hookloop.hookspecs import hookimpl
from hookloop.testing.faults import FailingCallback, Planted
from hookloop.testing.kit import TRAINED, Check, check, fail
from hookloop.testing.runs import Outcome, outcome, require_same, same
from hookloop.testing.subject import Subject
from hookloop.testing.tiny import TinyLoop

EPOCHS = 4


class _Saver(Callback):
    """Saves the run once: after an epoch, or after a batch."""

    name = "kit_saver"
    observer = True

    def __init__(self, path: Path, epoch: int, batch: int | None) -> None:
        self.path, self.epoch, self.batch = path, epoch, batch

    @hookimpl(trylast=True)
    def on_batch_checkpoint(self, loop: Any, batch: int) -> None:
        if (loop.epoch, batch) == (self.epoch, self.batch):
            save_state(self.path, loop.state_dict())

    @hookimpl(trylast=True)
    def on_epoch_checkpoint(self, loop: Any, epoch: int) -> None:
        if epoch == self.epoch and self.batch is None:
            save_state(self.path, loop.state_dict())


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
    """A run that broke off after an epoch, or in one, and is resumed, ends as if it had not."""
    whole = _run(subject, folder / "whole", TinyLoop(epochs=EPOCHS))
    for batch, where in ((None, "between epochs"), (1, "inside an epoch")):
        place = folder / where
        path = folder / f"{where}.pt"
        _break_off(subject, place, _Saver(path, 1, batch))
        if not path.exists():  # it stopped before
            continue
        resumed = _run(subject, place, TinyLoop(epochs=EPOCHS), resume=path)
        require_same(
            whole,
            resumed,
            subject.varying,
            f"Resumed {where}, the run does not end as the uninterrupted one",
            "keep all that changes during a run in state_dict()",
        )


def _run(subject: Subject, folder: Path, tiny: TinyLoop, **options: Any) -> Outcome:
    callback = subject.make(folder)
    saver = _Saver(folder, EPOCHS + 1, None)  # never saves, so that both runs have one
    return outcome(tiny, callback, folder, tiny.fit([callback, saver], **options))


def _break_off(subject: Subject, folder: Path, saver: _Saver) -> None:
    """Train until a batch after the save, and fail there."""
    with suppress(Planted):
        failing = FailingCallback("on_train_batch_begin", 2 * 3 + 2)
        TinyLoop(epochs=EPOCHS).fit([subject.make(folder), saver, failing])


CHECKS: tuple[Check, ...] = (state_round_trips, resumes_exactly)
