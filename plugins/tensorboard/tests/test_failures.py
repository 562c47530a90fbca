"""What tensorboard does when a disk is full, a folder disappears, or the run fails."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop_tensorboard import TensorBoard
from hookloop_tensorboard._events import KEPT, EventFiles

from hookloop import Callback, CallbackList, Trainer, files


class NoRoom(files.Disk):
    """A disk on which there is no room for a new folder."""

    def make(self, folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def start(folder: Path) -> CallbackList:
    callbacks = CallbackList([TensorBoard(folder)], model=None)
    callbacks.on_train_begin()
    return callbacks


def test_records_are_kept_and_written_when_there_is_room(
    tmp_path: Path, curve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training goes on, one warning says why, and nothing is lost."""
    callbacks = start(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(files, "disk", NoRoom())
        with pytest.warns(RuntimeWarning, match=r"up to 10,000 records .* No space left"):
            callbacks.on_epoch_end(0, {"loss": 1})
        callbacks.on_epoch_end(1, {"loss": 2})  # a second warning would be an error
    callbacks.on_epoch_end(2, {"loss": 3})
    callbacks.on_train_end()

    assert curve(tmp_path / "train", "epoch_loss") == [(0, 1.0), (1, 2.0), (2, 3.0)]


def test_what_is_lost_is_said_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training ends in order all the same."""
    callbacks = start(tmp_path)
    monkeypatch.setattr(files, "disk", NoRoom())
    with pytest.warns(RuntimeWarning, match="records are kept"):
        callbacks.on_epoch_end(0, {"loss": 1})
    with pytest.warns(RuntimeWarning, match=r"2 records could not be written to .*, and are lost"):
        callbacks.on_train_end()  # the text of the configuration, and the epoch


def test_a_record_is_in_the_file_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any
) -> None:
    """A write that is cut short leaves no torn record behind."""
    import resource

    callbacks = start(tmp_path)
    callbacks.on_epoch_end(0, {"loss": 1})
    [path] = (tmp_path / "train").glob("*tfevents*")
    before, size = resource.getrlimit(resource.RLIMIT_FSIZE), path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        with pytest.warns(RuntimeWarning, match="File too large"):
            callbacks.on_epoch_end(1, {"loss": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.stat().st_size == size
    callbacks.on_epoch_end(2, {"loss": 3})

    assert [event.step for event in read(tmp_path / "train").Scalars("epoch_loss")] == [0, 1, 2]


def test_the_number_of_records_kept_is_bounded(tmp_path: Path) -> None:
    """The oldest are given up."""
    written = EventFiles(tmp_path, "key")
    for step in range(KEPT + 3):
        written.add("train", step)

    assert (written.waiting, written.lost) == (KEPT, 3)


def test_a_folder_that_disappears_is_made_again(tmp_path: Path, curve: Any) -> None:
    """Somebody deletes the logs during the run: what follows can be read."""
    callbacks = start(tmp_path / "logs")
    callbacks.on_epoch_end(0, {"loss": 1})
    shutil.rmtree(tmp_path / "logs")
    callbacks.on_epoch_end(1, {"loss": 2})
    callbacks.on_train_end()

    assert curve(tmp_path / "logs" / "train", "epoch_loss") == [(1, 2.0)]


class Failing(Callback):
    """Fails in the second batch of the second epoch."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.loop.epoch, batch) == (1, 1):
            raise ValueError("out of luck")


def test_after_a_failure_all_that_was_recorded_is_there(tmp_path: Path, curve: Any) -> None:
    """And nothing is left open: an unclosed file would be an error here."""
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd", seed=0)
    x = torch.zeros(6, 1)
    board = TensorBoard(tmp_path, update_freq="batch", profile_batch=(1, 100))
    with pytest.raises(ValueError, match="out of luck"):
        trainer.fit((x, x), batch_size=2, epochs=3, callbacks=[Failing(), board], verbose=0)

    steps = [step for step, _ in curve(tmp_path / "train", "batch_loss")]
    assert steps == [1, 2, 3, 4]
    assert len(list(tmp_path.rglob("*.pt.trace.json"))) == 1
