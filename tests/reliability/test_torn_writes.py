"""A process that dies at any system call of a save leaves a good state, and nothing for ever.

Real processes, killed before each call that changes files and in the middle of each write, for
everything in core and in our plugins that writes.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import playing
import pytest
from system_calls import Call, Calls
from write_paths import BROKEN, PATHS, in_memory

#: Calls of the third save, and those of them that write: at least so many.
CALLS = {
    "file": (5, 1),
    "state as .pt": (5, 1),
    "state as folder": (19, 3),
    "backup": (18, 3),
    "whole checkpoint": (5, 1),
    "weights": (5, 1),
    "safetensors": (5, 1),
    "keep last": (6, 1),
    "keep best": (6, 1),
    "best and last": (10, 2),
    "rows": (1, 1),
    "rows with new columns": (5, 1),
    "events": (2, 1),
    "spool": (2, 1),
    "target of a spool": (5, 1),
    "lock": (11, 1),
}


@pytest.fixture
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All kills of this file; one of pytest's workers has them done for all."""
    return playing.once("torn_writes.py", tmp_path_factory, in_memory())


@pytest.mark.reliability("B2", "B5", "B7", "B9", "B10", "B11")
@pytest.mark.parametrize("name", PATHS)
def test_a_process_that_is_killed_at_any_call_of_a_save_loses_nothing(
    killed: dict[str, Any], name: str
) -> None:
    """What was saved before, or the new one, is read whole; the next run sweeps, and goes on."""
    assert killed[name]["problems"] == []
    assert (killed[name]["calls"], killed[name]["writes"]) >= CALLS[name]


@pytest.mark.reliability("B7")
def test_twenty_kills_leave_no_more_on_the_disk_than_one(killed: dict[str, Any]) -> None:
    """Never more than a state beyond those that are kept, and no older one; the last run sweeps."""
    assert killed["one after the other"] == []


@pytest.mark.reliability("B11")
def test_loggers_that_are_killed_lose_no_more_than_the_row_that_they_were_at(
    killed: dict[str, Any],
) -> None:
    """Twenty times at random: all rows can be read, and whoever goes on drops the torn one."""
    assert killed["loggers"] == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_writer_that_can_lose_something_is_caught(killed: dict[str, Any], name: str) -> None:
    """So the test above can fail."""
    assert killed[name]["problems"] != []


@pytest.mark.reliability("B8")
@pytest.mark.parametrize("name", ["backup", "keep last", "keep best", "state as folder"])
def test_the_new_one_is_durable_before_the_old_one_is_touched(tmp_path: Path, name: str) -> None:
    """All that goes, goes after the last sync of the folder in which the new one is."""
    save = PATHS[name].begin(tmp_path, 0)
    for number in (1, 2):
        save(number)
    with Calls(tmp_path) as calls:
        save(3)
    moved_in = max(
        at
        for at, call in enumerate(calls.done)
        if call.name == "replace" and not call.target.name.startswith(".")
    )
    synced = [at for at, call in enumerate(calls.done) if is_sync(call, calls.done[moved_in])]
    deleted = [at for at, call in enumerate(calls.done) if call.name in ("unlink", "rmdir")]
    assert moved_in < min(at for at in synced if at > moved_in) < min(deleted)


def is_sync(call: Call, moved: Call) -> bool:
    return call.name == "fsync" and call.path == moved.path.parent


@pytest.mark.reliability("C7")
def test_temporary_files_are_beside_what_they_become(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder for temporary files plays no part: here there is none."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    for name, path in PATHS.items():
        folder = tmp_path / name
        folder.mkdir()
        save = path.begin(folder, 0)
        with Calls(tmp_path) as calls:
            save(1)
        moves = [call for call in calls.done if call.name == "replace"]
        assert all(call.path.parent == call.target.parent for call in moves)
        assert path.read(folder) == 1
        shutil.rmtree(folder)
