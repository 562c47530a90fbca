"""Whatever a power cut leaves, a good state loads, and never one older than was acknowledged.

The calls of four saves are recorded, and replayed in a model of a disk that keeps only what it
has to. The test is itself tested: each writer that leaves out one of the precautions is caught.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from crash_states import Disk, put, seen
from system_calls import Call, Calls
from write_paths import PATHS, WritePath

from hookloop import checkpoints, files

DURABLE = [name for name, path in PATHS.items() if path.durable]
SAVES = 4


@dataclass
class Recorded:
    """Calls, and after how many of them which save was acknowledged."""

    calls: list[Call] = field(default_factory=list)
    acknowledged: list[tuple[int, int]] = field(default_factory=list)

    def known_after(self, count: int) -> int:
        return max((number for at, number in self.acknowledged if at <= count), default=0)


def record(path: WritePath, folder: Path, early: list[Any]) -> Recorded:
    """Save, and note the calls; who acknowledges early calls what stands in the list."""
    with Calls(folder) as calls:
        recorded = Recorded()
        save = path.begin(folder, 0)
        for number in range(1, SAVES + 1):
            early[:] = [
                lambda number=number: recorded.acknowledged.append((len(calls.done), number))
            ]
            save(number)
            recorded.acknowledged.append((len(calls.done), number))
    recorded.calls = calls.done
    return recorded


def violations(path: WritePath, recorded: Recorded, root: Path, scratch: Path) -> Any:
    """Load every state that the disk may be in after every call; gives counts and violations."""
    disk, loaded, whole = Disk(root), {}, set()
    for count in range(len(recorded.calls) + 1):
        if count:
            disk.replay(recorded.calls[count - 1])
        for tree in disk.states():
            whole.add(hash(tree))
            if seen(tree) not in loaded:
                loaded[seen(tree)] = read(path, tree, scratch)
            found = loaded[seen(tree)]
            if not isinstance(found, int) or found < recorded.known_after(count):
                yield count, found
                return
    yield len(recorded.calls), len(whole), len(loaded)


def read(path: WritePath, tree: Any, scratch: Path) -> int | str:
    folder = scratch / "disk"
    folder.mkdir(parents=True)
    try:
        put(tree, folder)
        return path.read(folder) or 0
    except Exception as error:
        return repr(error)
    finally:
        shutil.rmtree(folder)


@pytest.mark.reliability("B3")
@pytest.mark.parametrize("name", DURABLE)
def test_no_power_cut_loses_what_was_acknowledged(
    tmp_path: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    """After every call, in every state that is possible then."""
    folder = tmp_path / "run"
    folder.mkdir()
    recorded = record(PATHS[name], folder, [])
    [result] = violations(PATHS[name], recorded, folder, tmp_path / "scratch")
    assert len(result) == 3, (result, recorded.calls[: result[0]])
    record_property("calls, states, in sight", result)
    print(f"{name}: {result[0]} calls, {result[1]} states, {result[2]} that differ in sight")


# -- the test of the test ---------------------------------------------------------------


class NoSync(files.Disk):
    """Does not sync certain files or folders."""

    def __init__(self, leaves_out: Callable[[Path], bool]) -> None:
        self.leaves_out = leaves_out

    def sync(self, file: Any) -> None:
        file.flush()
        if not self.leaves_out(Path(file.name)):
            super().sync(file)

    def sync_folder(self, folder: Path) -> None:
        if not self.leaves_out(folder):
            super().sync_folder(folder)


class Early(files.Disk):
    """Has a save acknowledged when it is renamed into place."""

    def __init__(self, early: list[Any]) -> None:
        self.early = early

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        if target.name.startswith(("state-", "a.json", "m.", "run")):
            self.early[0]()


def plain_file(path: Path) -> bool:
    return path.suffix in (".json", ".safetensors", ".tmp") and path.is_file()


def deletes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is to be replaced, and all older states, deleted before the new one is written."""
    write, folder = files.atomic_write, files.replace_folder

    def atomic_write(path: Any, *args: Any, **more: Any) -> None:
        Path(path).unlink(missing_ok=True)
        write(path, *args, **more)

    def replace_folder(path: Any, *args: Any, **more: Any) -> None:
        for old in Path(path).parent.glob("[!.]*"):
            if (old / files.MANIFEST).exists():
                files.delete_folder(old)
        folder(path, *args, **more)

    monkeypatch.setattr(files, "atomic_write", atomic_write)
    monkeypatch.setattr(files, "replace_folder", replace_folder)


LEFT_OUT: dict[str, Callable[[Path], bool]] = {
    "no file is synced": lambda path: plain_file(path) and path.name != "manifest.json",
    "the manifest is not synced": lambda path: path.name == "manifest.json",
    "the temporary folder is not synced": lambda path: path.is_dir() and path.suffix == ".tmp",
    "the folder is not synced": lambda path: path.is_dir() and path.name in ("backup", "er", "run"),
    "the folder of a new folder is not synced": lambda path: (
        (path / "backup").is_dir() or (path / "er").is_dir()
    ),
}
MUTANTS = [
    *(("backup", what) for what in LEFT_OUT),
    *(
        ("state as folder", what)
        for what in LEFT_OUT
        if "folder is not synced" not in what or "temporary" in what
    ),
    ("file", "no file is synced"),
    ("file", "the folder is not synced"),
    ("file", "the folder of a new folder is not synced"),
    *(("weights", what) for what in ("no file is synced", "the folder is not synced")),
    *(("safetensors", what) for what in ("no file is synced", "the folder is not synced")),
    *((name, "acknowledged early") for name in ("backup", "file", "state as folder", "weights")),
    *(
        (name, "the old one goes first")
        for name in ("backup", "file", "state as folder", "weights")
    ),
]


@pytest.mark.reliability("B3")
@pytest.mark.parametrize(("name", "what"), MUTANTS, ids=[f"{a}: {b}" for a, b in MUTANTS])
def test_a_writer_that_leaves_out_a_precaution_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    """So the test above can fail, at each of them."""
    folder, early = tmp_path / "run", []
    folder.mkdir()
    if what in LEFT_OUT:
        monkeypatch.setattr(files, "disk", NoSync(LEFT_OUT[what]))
    elif what == "acknowledged early":
        monkeypatch.setattr(files, "disk", Early(early))
    else:
        deletes_first(monkeypatch)
    recorded = record(PATHS[name], folder, early)
    [result] = violations(PATHS[name], recorded, folder, tmp_path / "scratch")
    assert len(result) == 2, f"not caught in {result[1]} states"


def test_the_loader_is_asked_about_states_that_are_good(tmp_path: Path) -> None:
    """What the model says is on the disk in the end is what is there."""
    folder = tmp_path / "run"
    folder.mkdir()
    recorded = record(PATHS["state as folder"], folder, [])
    disk = Disk(folder)
    for call in recorded.calls:
        disk.replay(call)
    *_, last = disk.states()
    put(last, tmp_path)
    assert checkpoints.load_state(tmp_path / "deep" / "run")["loop"]["epoch"] == SAVES
