"""A disk without room: what was saved stays, the error says how much is needed, loggers go on.

With a limit of the kernel's for the size of files, which anybody may set, and on a small disk of
its own wherever one may be mounted.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from full_disk import SAVERS
from hookloop_backup_and_restore import BackupAndRestore, _states
from system_calls import Calls
from write_paths import PATHS, in_memory, left_over, state

from hookloop import Trainer, reading
from hookloop.errors import FileError, HookloopError

HOST = Path(__file__).parents[1] / "hosts" / "full_disk.py"
SPACE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def mounts() -> bool:
    """Tell whether a process may mount a disk in a name space of its own."""
    command = [*SPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


DISKS = ["limit", *(["small"] if sys.platform == "linux" and mounts() else [])]
Play = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def play() -> Play:
    """Have a kind of trial done in a process of its own, once."""
    done: dict[str, dict[str, Any]] = {}

    def play(kind: str) -> dict[str, Any]:
        if kind not in done:
            space = SPACE if kind == "small" else []
            with in_memory() as folder:
                command = [*space, sys.executable, HOST, kind, folder]
                ran = subprocess.run(
                    command, capture_output=True, text=True, timeout=200, check=False
                )
            assert ran.returncode == 0, ran.stderr
            done[kind] = json.loads(ran.stdout.splitlines()[-1])
        return done[kind]

    return play


def is_complaint(text: str, name: str) -> bool:
    """Tell whether an error or warning names the reason, and for our savers the bytes."""
    if "cannot be written" not in text:
        return name == "spool"  # whose owner says it in its own words
    return " bytes are free there" in text and text.splitlines()[-1].startswith("fix: make room")


@pytest.mark.reliability("C1")
@pytest.mark.parametrize("kind", DISKS)
@pytest.mark.parametrize("name", PATHS)
def test_without_room_the_older_save_stays_and_the_next_is_good(
    play: Play, name: str, kind: str
) -> None:
    """At any size at which files end: said with the room there is; nothing half is left."""
    failed = 0
    for trial, result in play(kind)["trials"].items():
        of, size, policy = trial.split("|")
        if of != name:
            continue
        complaints = [*result["errors"], *result["told"]]
        failed += bool(complaints)
        assert result["then"] == 3 - bool(complaints), trial
        assert all(is_complaint(text, name) for text in complaints), complaints
        assert result["left"] == [], trial
        assert result["after"] == 4, trial
        if complaints and name in SAVERS:
            assert bool(result["told"]) is (policy == "warn"), trial
            assert "are needed" in complaints[0]
        if size == "0":
            assert complaints, trial
    assert failed or kind == "small"


@pytest.mark.reliability("C1")
@pytest.mark.parametrize("kind", DISKS)
def test_loggers_go_on_and_write_what_they_kept_when_there_is_room(play: Play, kind: str) -> None:
    """A run of five epochs, two of them without room: nothing is missing, each says it once."""
    result = play(kind)["logged"]
    assert result["outcome"] == "finished"
    assert result["rows"] == ["epoch", "0", "1", "2", "3", "4"]
    assert result["points"] == [0, 1, 2, 3, 4]
    assert result["events"] == ["0", "1", "2", "3", "4"]
    who = sorted(text.partition(":")[0] for text in result["told"])
    full = ["csv_logger", "remote_monitor", "tensorboard"]
    assert who == (full if kind == "limit" else ["remote_monitor"])  # it alone needs a new file


# -- any call may fail ---------------------------------------------------------------


def fails(code: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.reliability("C1", "C2")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    "name", ["file", "state as .pt", "state as folder", "backup", "keep last", "safetensors"]
)
def test_whatever_call_of_a_save_fails_it_is_said_and_nothing_is_lost(
    tmp_path: Path, name: str, code: int
) -> None:
    """Each call in turn; an error after the rename is one too, though the file is there."""
    path, at, failed = PATHS[name], 0, True
    while failed:
        folder = tmp_path / f"{at}"
        folder.mkdir()
        save = path.begin(folder, 0)
        save(1)
        save(2)
        with Calls(folder, at, fails(code)) as calls, suppress(HookloopError):
            save(3)
        failed = calls.hit != ""
        found = path.read(folder)
        assert found in ((2, 3) if failed else (3,)), at
        save(4)
        assert path.read(folder) == 4
        # What cannot be deleted is out of sight, for the next run to sweep.
        assert left_over(folder) == [] or calls.hit in ("unlink", "rmdir"), at
        at += 1
    assert at > 5


@pytest.mark.reliability("C2")
@pytest.mark.parametrize("name", ["file", "state as .pt", "backup", "safetensors"])
def test_a_sync_that_fails_is_never_tried_again(tmp_path: Path, name: str) -> None:
    """The kernel forgets the error, so a second one would succeed: the file is given up."""
    path = PATHS[name]
    save = path.begin(tmp_path, 0)
    save(1)
    with Calls(tmp_path, 0, fails(errno.EIO), only=("fsync",)) as calls:
        with pytest.raises(FileError, match="Input/output error"):
            save(2)
        [temporary] = {call.path for call in calls.done if call.name == "open"}
        assert calls.count == 1
        save(3)
    synced = {call.path for call in calls.done if call.name == "fsync"}
    assert temporary not in synced
    assert path.read(tmp_path) == 3


# -- before the first step ---------------------------------------------------------------


WITHOUT_RIGHTS = """
import ctypes, os, sys
import torch
from hookloop import CallbackList, HookloopError
def begin(name, **settings):
    run = CallbackList([(name, settings)], model=torch.nn.Linear(1, 1))
    try:
        run.on_train_begin()
        run.on_epoch_end(0)
        run.on_train_end()
    except HookloopError as error:
        print(name, run.loop.epoch, str(error).replace("\\n", " "))
def begin_all(where):
    begin("backup_and_restore", backup_dir=where)
    begin("model_checkpoint", filepath=where + "/m.pt")
    begin("csv_logger", filename=where + "/log.csv")
    begin("tensorboard", log_dir=where)
    begin("remote_monitor", spool=where, flush_timeout=0.0)
os.chdir(sys.argv[1])
begin_all("allowed")  # which imports all that there is to import
os.chdir("refused")
if os.geteuid() == 0:  # who may write anywhere, unless that is given up
    head, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(head, rights) == 0
for where in sys.argv[2:]:
    begin_all(where)
"""


@pytest.mark.reliability("C3")
def test_what_can_never_be_written_is_refused_before_the_first_step(tmp_path: Path) -> None:
    """By everything that writes, with the path and what to do, for want of rights or a folder."""
    refused = tmp_path / "refused"
    refused.mkdir()
    (refused / "file").write_bytes(b"")
    refused.chmod(0o555)
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_RIGHTS, tmp_path, "new", "file/new"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    refused.chmod(0o755)
    lines = [line for line in ran.stdout.splitlines() if "could not be delivered" not in line]
    names = "backup_and_restore model_checkpoint csv_logger tensorboard remote_monitor".split()
    assert [line.split()[:2] for line in lines] == [[name, "None"] for name in names * 2], (
        ran.stderr
    )
    for line in lines[:5]:
        assert re.search(
            r"new.* cannot be written: Permission denied\. fix: choose a folder th", line
        )
    for line in lines[5:]:
        assert re.search(r"file/new.* cannot be written: Not a directory\. fix: choose a fo", line)


@pytest.mark.reliability("C9")
def test_a_clock_that_is_set_back_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States are chosen by number: the last is the newest, though it is a day older."""
    for number in (1, 2, 3):
        monkeypatch.setattr(time, "time", lambda number=number: 1e9 - 86400 * number)
        written = _states.write(tmp_path, state(number), 3, [])
        for file in (written, *written.iterdir()):
            os.utime(file, (1e9 - 86400 * number,) * 2)
    newest = _states.newest(tmp_path)
    assert newest.state is not None
    assert (newest.path, newest.state["loop"]["epoch"]) == (tmp_path / "state-000003", 3)


@pytest.mark.reliability("C8")
def test_too_little_room_is_said_once_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what will be needed for the states that are kept and one more, of a run with Adam."""
    monkeypatch.setattr(reading, "free", lambda path: 1000)
    x = torch.zeros(2, 100)
    trainer = Trainer(torch.nn.Linear(100, 1), loss="mse", optimizer="adam", device="cpu")
    backup = BackupAndRestore(tmp_path / "backup", keep=4)
    with pytest.warns(RuntimeWarning, match="up to 6,060 will be needed, for 5 saves of 1,212"):
        trainer.fit((x, x[:, :1]), callbacks=[backup], verbose=0)
