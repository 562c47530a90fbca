"""Which files csv_logger refuses before training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hookloop_csv_logger import CSVLogger

from hookloop import CallbackList
from hookloop.errors import FileError


def begin(*loggers: CSVLogger) -> None:
    CallbackList(list(loggers), model=None).on_train_begin()


@pytest.mark.parametrize("second", ["log.csv", "./log.csv", "sub/../log.csv", "link.csv"])
def test_two_loggers_of_one_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    """Both are named, however the path is written."""
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("link.csv").symlink_to("log.csv")
    with pytest.raises(FileError, match=r"csv_logger#2 and csv_logger both write .*log\.csv"):
        begin(CSVLogger("log.csv"), CSVLogger(second))


def test_two_loggers_of_two_files_write_both(tmp_path: Path) -> None:
    """One run may have several logs."""
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    callbacks = CallbackList([CSVLogger(path) for path in paths], model=None)
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0, {"loss": 1})
    assert [path.read_text() for path in paths] == ["epoch,loss\n0,1\n"] * 2


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder is no file."""
    with pytest.raises(FileError, match="this path is a folder"):
        begin(CSVLogger(tmp_path))


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    """No folder can be made there."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        begin(CSVLogger(tmp_path / "file" / "log.csv"))


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """A pipe or device would be replaced by a file."""
    os.mkfifo(tmp_path / "log.csv")
    with pytest.raises(FileError, match="is no plain file"):
        begin(CSVLogger(tmp_path / "log.csv"))


UNPRIVILEGED = """
import os, pathlib, sys, tempfile
from hookloop import CallbackList
from hookloop_csv_logger import CSVLogger

def begin(path):
    CallbackList([CSVLogger(path)], model=None).on_train_begin()

target, mode = sys.argv[1], int(sys.argv[2])
with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    begin(folder / "log.csv")  # loads all that is loaded late
    (folder / "log.csv").write_text("epoch")
    folder.chmod(0o777)
    (folder / target).chmod(mode)
    if os.geteuid() == 0:
        os.seteuid(65534)  # root may write anywhere
    try:
        begin(folder / "log.csv")
    except OSError as error:
        print(error)
    finally:
        os.seteuid(os.getuid())
        folder.chmod(0o700)
"""


@pytest.mark.parametrize(("target", "mode"), [("log.csv", 0o444), (".", 0o555)])
def test_what_may_not_be_written_is_refused(target: str, mode: int) -> None:
    """A read-only file, and a read-only folder."""
    command = [sys.executable, "-c", UNPRIVILEGED, target, str(mode)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "fix: choose a folder that you may write to" in done.stdout
