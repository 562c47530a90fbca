"""What is saved when, how many states are kept, and when they are deleted."""

from __future__ import annotations

import errno
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop_backup_and_restore import BackupAndRestore

from hookloop import Callback, CallbackList, files, reading
from hookloop.checkpoints import load_state
from hookloop.errors import FileError


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({}, [(2, 0), (3, 0)]),
        ({"keep": 3}, [(1, 0), (2, 0), (3, 0)]),
        ({"keep": 1}, [(3, 0)]),
        ({"double_checkpoint": True}, [(2, 0), (3, 0)]),
        ({"save_freq": "2 epochs"}, [(2, 0)]),
        ({"save_freq": 3}, [(2, 1), (2, 4)]),
        ({"save_freq": 5}, [(1, 1), (2, 2)]),
        ({"save_freq": "2 steps", "async_save": False}, [(2, 2), (2, 4)]),
        ({"save_on_exception": True}, [(3, 0), (3, 1)]),
        ({"save_on_exception": True, "save_freq": 3, "keep": 3}, [(2, 1), (2, 4), (3, 1)]),
    ],
)
def test_states_are_saved_as_often_as_was_asked(
    run, settings: dict[str, Any], places: list[tuple[int, int]]
) -> None:
    """Broken off after the second batch of the fourth epoch, which has 4: index of the next."""
    run.broken(3, 1, **settings)
    assert list(run.places().values()) == places


@pytest.mark.reliability("B7")
def test_what_a_killed_run_left_goes_before_another_state_comes(tmp_path, monkeypatch) -> None:
    """It died before it deleted the oldest; there is never more than one beyond those kept."""
    model = torch.nn.Linear(1, 1)
    killed = CallbackList([BackupAndRestore(tmp_path, keep=3)], model=model)
    killed.on_train_begin()
    for epoch in range(3):
        killed.on_epoch_end(epoch)
    killed.on_exception(KeyboardInterrupt())
    most = 0

    class Looks(files.Disk):
        def replace(self, source: Path, target: Path) -> None:
            nonlocal most
            most = max(most, len([*tmp_path.glob("*state-*")]))
            super().replace(source, target)

    monkeypatch.setattr(files, "disk", Looks())
    again = CallbackList([BackupAndRestore(tmp_path, keep=2)], model=model)
    again.on_train_begin()
    again.on_epoch_end(3)
    again.on_exception(KeyboardInterrupt())
    assert most == 3
    assert [one.name for one in sorted(tmp_path.glob("state-*"))] == [
        *("state-000003", "state-000004")
    ]


def test_saving_changes_nothing_in_the_run(run) -> None:
    """Weights and random numbers are those of the run without it."""
    weights = [run(*chosen).module.state_dict() for chosen in ((), (BackupAndRestore("b", 1),))]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_time_is_counted_from_the_last_save(run) -> None:
    """Also at the end of an epoch."""
    now = 0.0

    class Clock(BackupAndRestore):
        clock = staticmethod(lambda: now)

    callbacks = CallbackList([Clock("backup", "10 min", keep=9)], model=torch.nn.Linear(1, 1))
    callbacks.on_train_begin()
    for epoch, now in enumerate([500.0, 600.0, 700.0, 1200.0]):  # noqa: B007
        callbacks.on_epoch_end(epoch)
    callbacks.on_exception(KeyboardInterrupt())
    assert list(run.places().values()) == [(2, 0), (4, 0)]


def test_a_signal_is_what_the_loop_says_it_is(run) -> None:
    """`loop.interrupted` is the one thing that is looked at after each batch."""

    class Interrupts(Callback):
        def on_train_batch_end(self, batch: int) -> None:
            if (self.loop.epoch, batch) == (1, 2):
                os.kill(os.getpid(), 2)

    with pytest.raises(KeyboardInterrupt):
        run(BackupAndRestore("a"), BackupAndRestore("b", save_on_signals=False), Interrupts())
    assert list(run.places("a").values()) == [(1, 0), (1, 3)]
    assert list(run.places("b").values()) == [(1, 0)]


# -- after the run -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["finished", "stopped"])
def test_a_run_that_ends_well_deletes_its_folder(run, folder: Path, end: str) -> None:
    """Finished, or stopped by a callback."""

    class Stops(Callback):
        def on_epoch_end(self) -> None:
            if end == "stopped":
                self.loop.stop("enough")

    run(BackupAndRestore("deep/backup"), Stops())
    assert run.trainer.history.outcome == end
    assert list(folder.iterdir()) == [folder / "deep"]
    assert list((folder / "deep").iterdir()) == []


def test_states_are_kept_if_that_is_asked_for(run, capsys) -> None:
    """Started again, the run has ended already, and says so; with more epochs it goes on."""
    run(BackupAndRestore("backup", delete_checkpoint=False))
    assert list(run.places().values()) == [(3, 0), (4, 0)]
    again = run(BackupAndRestore("backup", delete_checkpoint=False)).history
    assert (again.epoch, again.outcome) == ([0, 1, 2, 3], "finished")
    assert "The resumed run has ended already (4 epochs are done" in capsys.readouterr().out
    assert run(BackupAndRestore("backup"), epochs=6).history.epoch == [0, 1, 2, 3, 4, 5]


def test_a_run_that_stops_with_nan_keeps_its_states(run) -> None:
    """It has failed: nothing is saved from then on, and nothing deleted (W6)."""

    class Diverges(Callback):
        def on_epoch_end(self, epoch: int) -> None:
            if epoch == 2:
                self.loop.stop("the loss is nan", failed=True)

    run(BackupAndRestore("backup"), Diverges())
    assert run.trainer.history.outcome == "failed"
    assert list(run.places().values()) == [(1, 0), (2, 0)]


@pytest.mark.reliability("D1")
def test_a_signal_at_the_very_end_keeps_the_states(run) -> None:
    """The process exits as the signal asks; started again, nothing is left to train."""

    class Late(Callback):
        def on_train_end(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as left:
        run(Late(), BackupAndRestore("backup"), epochs=2)
    assert left.value.code == 143
    assert list(run.places().values()) == [(1, 0), (2, 0)]
    again = run(BackupAndRestore("backup"), epochs=2).history
    assert (again.epoch, again.outcome) == ([0, 1], "finished")
    assert run.places() == {}


def test_a_saver_that_fails_at_the_end_keeps_the_states(run) -> None:
    """Its checkpoint is not on disk, so the run is no success."""

    class Fails(Callback):
        def on_train_end(self) -> None:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run(Fails(), BackupAndRestore("backup"), epochs=2)
    assert list(run.places().values()) == [(1, 0), (2, 0)]


def test_files_of_the_user_survive(run, folder: Path) -> None:
    """Beside the states and even inside of one; a new run begins afresh beside them (W6)."""
    run.broken(2)
    theirs = {"notes.txt", "state-of-the-art.md", ".hidden.tmp", "state-000001/comment.txt"}
    for name in theirs:
        (folder / "backup" / name).write_text("mine")
    for _ in range(2):
        run(BackupAndRestore("backup"))
        left = [path for path in (folder / "backup").rglob("*") if path.is_file()]
        assert {str(path.relative_to(folder / "backup")) for path in left} == theirs


def test_what_dead_runs_left_is_swept(run, folder: Path) -> None:
    """Whatever process it was, even one of the number of this: the lock is held."""
    left = folder / "backup" / f".state-000007.{os.getpid()}-0123abcd.tmp"
    left.mkdir(parents=True)
    (left / "state.json").write_text("{")
    run(BackupAndRestore("backup", delete_checkpoint=False), epochs=1)
    assert not left.exists()


# -- failing -----------------------------------------------------------------------------------


class Full(files.Disk):
    """A disk that is full for the states from a number on."""

    def __init__(self, first: int, last: int = 99) -> None:
        self.first, self.last = first, last

    def open(self, path: Path) -> Any:
        name = path.parent.name
        if name.startswith(".state-") and self.first <= int(name[7:13]) <= self.last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().open(path)


@pytest.mark.reliability("C1")
@pytest.mark.parametrize("async_save", [True, False])
def test_a_full_disk_ends_the_run_and_the_older_state_stays(
    run, monkeypatch: pytest.MonkeyPatch, async_save: bool
) -> None:
    """At the next hook, with the path and the room that is left."""
    monkeypatch.setattr(files, "disk", Full(2))
    with pytest.raises(FileError, match=r"state-000002 cannot be written: No space left.* free"):
        run(BackupAndRestore("backup", async_save=async_save))
    assert run.places() == {"state-000001": (1, 0)}


@pytest.mark.reliability("C1")
@pytest.mark.parametrize("async_save", [True, False])
def test_a_full_disk_can_be_lived_with(
    run, monkeypatch: pytest.MonkeyPatch, capsys, async_save: bool
) -> None:
    """A warning each time, a line with their number at the end, and saves when there is room."""
    full = Full(2)
    monkeypatch.setattr(files, "disk", full)

    class Frees(Callback):
        def on_epoch_begin(self, epoch: int) -> None:
            full.first = 99 if epoch == 3 else 2

    backup = BackupAndRestore(
        "backup", on_save_error="warn", async_save=async_save, delete_checkpoint=False
    )
    settles = Settles(backup)
    with pytest.warns(RuntimeWarning, match="the run was not saved, and training goes on") as seen:
        run(backup, settles, Frees())
    assert len(seen) == 2
    assert list(run.places().values()) == [(1, 0), (4, 0)]
    assert (
        "backup_and_restore: saves that failed: 2; the last: backup/state-00000"
        in capsys.readouterr().out
    )


class Settles(Callback):
    """Waits after each epoch until the writer has done all that it was given."""

    def __init__(self, backup: BackupAndRestore) -> None:
        pass

    def on_epoch_checkpoint(self) -> None:
        files.background(lambda: None).result()

    on_epoch_begin = on_epoch_checkpoint


@pytest.mark.parametrize(("free", "keep"), [(383, 1), (384, 1), (575, 2), (576, 2)])
@pytest.mark.reliability("C8")
def test_too_little_room_is_said_when_the_run_begins(
    run, monkeypatch: pytest.MonkeyPatch, free: int, keep: int
) -> None:
    """For one more state than are kept, each of 16 weights and Adam's two values for each."""
    monkeypatch.setattr(reading, "free", lambda path: free)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        run(BackupAndRestore("backup", keep=keep), epochs=1, width=3)
    said = (
        f"backup: {free:,} bytes are free there, and up to {192 * (keep + 1):,} will be needed, "
        f"for {keep + 1} saves of 192."
    )
    assert [str(one.message).partition("\nfix: ")[0] for one in seen] == [said] * (free % 2)


def test_a_state_is_written_after_the_files_that_it_speaks_of(run, folder: Path) -> None:
    """A checkpoint that is on its way when the state is saved is on disk before it."""
    seen = []

    class Saves(Callback):
        def on_epoch_checkpoint(self, epoch: int) -> None:
            files.background(lambda: seen.append(sorted(run.places())))

    run(BackupAndRestore("backup", async_save=False), Saves(), epochs=3)
    assert seen == [[], ["state-000001"], ["state-000001", "state-000002"]]


def test_a_copy_is_saved_though_training_goes_on(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written in the background are the weights of the moment of the save."""
    weights: dict[int, torch.Tensor] = {}

    class Notes(Callback):
        def on_epoch_checkpoint(self, epoch: int) -> None:
            weights[epoch + 1] = self.model[0].weight.detach().clone()

    run(BackupAndRestore("backup", delete_checkpoint=False, keep=9), Notes())
    for path in Path("backup").glob("state-*"):
        saved = load_state(path)
        assert torch.equal(saved["model"]["0.weight"], weights[saved["loop"]["epoch"]])
