"""What csv_logger does while its file cannot be written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from hookloop_csv_logger import CSVLogger

from hookloop import CallbackList, files


class FullDisk(files.Disk):
    """A disk on which there is no room for a new file."""

    def open(self, path: Path) -> IO[bytes]:
        if "trial" not in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().open(path)


def start(path: Path) -> tuple[CallbackList, CSVLogger]:
    logger = CSVLogger(path)
    callbacks = CallbackList([logger], model=None)
    callbacks.on_train_begin()
    return callbacks, logger


def test_rows_are_kept_and_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training goes on, one warning says why, and nothing is lost."""
    path = tmp_path / "log.csv"
    callbacks, _ = start(path)
    with monkeypatch.context() as full:
        full.setattr(files, "disk", FullDisk())
        with pytest.warns(RuntimeWarning, match="No space left on device.*are free"):
            callbacks.on_epoch_end(0, {"loss": 1})
        callbacks.on_epoch_end(1, {"loss": 2})  # a second warning would be an error
        assert not path.exists()
    callbacks.on_epoch_end(2, {"loss": 3})
    callbacks.on_train_end()
    assert path.read_text() == "epoch,loss\n0,1\n1,2\n2,3\n"
    assert "3 rows that were kept are in" in capsys.readouterr().out


def test_a_file_that_cannot_be_widened_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file is there, and the end of training tries once more."""
    path = tmp_path / "log.csv"
    callbacks, _ = start(path)
    callbacks.on_epoch_end(0, {"loss": 1})
    with monkeypatch.context() as full:
        full.setattr(files, "disk", FullDisk())
        with pytest.warns(RuntimeWarning, match="rows are kept in memory, up to 10,000"):
            callbacks.on_epoch_end(1, {"loss": 2, "acc": 3})
        assert path.read_text() == "epoch,loss\n0,1\n"
    callbacks.on_train_end()
    assert path.read_text() == "epoch,loss,acc\n0,1,NA\n1,2,3\n"


def test_what_is_lost_is_said_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training ends in order all the same."""
    callbacks, _ = start(tmp_path / "log.csv")
    monkeypatch.setattr(files, "disk", FullDisk())
    with pytest.warns(RuntimeWarning, match="rows are kept"):
        callbacks.on_epoch_end(0, {"loss": 1})
    with pytest.warns(RuntimeWarning, match=r"1 rows could not be written to .*log\.csv"):
        callbacks.on_train_end()


def test_the_number_of_rows_kept_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest go first."""
    monkeypatch.setattr("hookloop_csv_logger.KEPT", 2)
    path = tmp_path / "log.csv"
    callbacks, _ = start(path)
    with monkeypatch.context() as full:
        full.setattr(files, "disk", FullDisk())
        with pytest.warns(RuntimeWarning, match="rows are kept"):
            callbacks.on_epoch_end(0, {"loss": 1})
        for epoch in (1, 2):
            callbacks.on_epoch_end(epoch, {"loss": 1})
    with pytest.warns(RuntimeWarning, match="1 rows could not be written"):
        callbacks.on_train_end()
    assert path.read_text() == "epoch,loss\n1,1\n2,1\n"


def test_rows_that_wait_are_part_of_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run writes what the killed one could not."""
    path = tmp_path / "log.csv"
    callbacks, logger = start(path)
    callbacks.on_epoch_end(0, {"loss": 1})
    with monkeypatch.context() as full:
        full.setattr(files, "disk", FullDisk())
        with pytest.warns(RuntimeWarning, match="rows are kept"):
            callbacks.on_epoch_end(1, {"loss": 2, "acc": 3})
    state = logger.state_dict()
    callbacks, logger = start(path)
    logger.load_state_dict(state)
    callbacks.on_train_end()
    assert path.read_text() == "epoch,loss,acc\n0,1,NA\n1,2,3\n"


def test_a_file_that_is_deleted_during_the_run_is_begun_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the rows from then on, and a word about those that are gone."""
    path = tmp_path / "log.csv"
    callbacks, _ = start(path)
    callbacks.on_epoch_end(0, {"loss": 1})
    path.unlink()
    with pytest.warns(RuntimeWarning, match="No such file or directory"):
        callbacks.on_epoch_end(1, {"loss": 2})
    callbacks.on_epoch_end(2, {"loss": 3})
    assert path.read_text() == "epoch,loss\n1,2\n2,3\n"
    assert "1 earlier rows are gone from" in capsys.readouterr().out


LIMITED = """
import resource, sys, warnings
from hookloop import CallbackList
from hookloop_csv_logger import CSVLogger

path = sys.argv[1]
callbacks = CallbackList([CSVLogger(path)], model=None)
callbacks.on_train_begin()
callbacks.on_epoch_end(0, {"loss": 1})
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))  # in the middle of the next but one row
warnings.simplefilter("ignore")
for epoch in (1, 2, 3):
    callbacks.on_epoch_end(epoch, {"loss": 1})
print(repr(open(path).read()))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
callbacks.on_epoch_end(4, {"loss": 1})
print(repr(open(path).read()))
"""


def test_half_a_row_is_never_left(tmp_path: Path) -> None:
    """A limit of the kernel's cuts a write in two; the file has whole rows before and after."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "log.csv")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, _, after = done.stdout.splitlines()
    assert before == r"'epoch,loss\n0,1\n1,1\n'"
    assert after == r"'epoch,loss\n0,1\n1,1\n2,1\n3,1\n4,1\n'"
