"""Files: at every instant the old or the new one is there whole, and only our own is deleted."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import pytest

from hookloop import files, reading
from hookloop.errors import FileError, StateError
from hookloop.loop import Loop


class Recording(files.Disk):
    """Does what it is told and writes it down; fails at one chosen operation, if at all."""

    def __init__(self, fails_at: int | None = None, error: BaseException | None = None) -> None:
        self.done: list[str] = []
        self.fails_at = fails_at
        self.error = error or OSError(errno.EIO, os.strerror(errno.EIO))

    def _note(self, operation: str) -> None:
        self.done.append(operation)
        if self.fails_at == len(self.done) - 1:
            raise self.error

    def make(self, folder: Path) -> None:
        self._note("make")
        super().make(folder)

    def open(self, path: Path) -> IO[bytes]:
        self._note("open")
        return super().open(path)

    def sync(self, file: IO[bytes]) -> None:
        self._note("sync")
        super().sync(file)

    def sync_folder(self, folder: Path) -> None:
        self._note("sync_folder")
        super().sync_folder(folder)

    def replace(self, source: Path, target: Path) -> None:
        self._note("replace")
        super().replace(source, target)

    def delete(self, path: Path) -> None:
        self._note("delete")
        super().delete(path)

    def delete_folder(self, folder: Path) -> None:
        self._note("delete_folder")
        super().delete_folder(folder)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[files.Disk], Any]:
    """Have ``files`` use another disk; back to the real one after the test."""

    def use(disk: files.Disk) -> Any:
        monkeypatch.setattr(files, "disk", disk)
        return disk

    return use


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# -- one file ---------------------------------------------------------------


@pytest.mark.parametrize("content", [b"new", lambda file: file.write(b"new")], ids=["bytes", "fn"])
def test_a_file_is_replaced_durably(
    tmp_path: Path, use: Callable[[files.Disk], Any], content: Any
) -> None:
    """Written beside, flushed, renamed over the old one, and the folder flushed as well."""
    disk = use(Recording())
    path = tmp_path / "a.pt"
    files.atomic_write(path, content)
    assert disk.done == OPERATIONS
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["a.pt"]


def test_folders_that_are_made_for_a_file_are_durable_before_it(
    tmp_path: Path, use: Callable[[files.Disk], Any]
) -> None:
    """The folder of each is flushed, or a power cut would take it with the file."""
    disk = use(Recording())
    files.atomic_write(tmp_path / "deep" / "er" / "a.pt", b"new")
    assert disk.done == ["make", "sync_folder", "sync_folder", *OPERATIONS]


OPERATIONS = ["open", "sync", "replace", "sync_folder"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "bad"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("place", range(4), ids=OPERATIONS)
def test_whatever_fails_a_whole_file_is_there_and_nothing_else(
    tmp_path: Path, use: Callable[[files.Disk], Any], place: int, error: BaseException
) -> None:
    """The old one up to the rename, the new one from it on; no temporary file is left."""
    path = tmp_path / "a.pt"
    files.atomic_write(path, b"old")
    use(Recording(place, error))
    with pytest.raises((FileError, KeyboardInterrupt)):
        files.atomic_write(path, b"new")
    assert path.read_bytes() == (b"new" if OPERATIONS[place] == "sync_folder" else b"old")
    assert names(tmp_path) == ["a.pt"]


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """Its own exception goes on as it is."""
    path = tmp_path / "a.pt"
    files.atomic_write(path, b"old")

    def write(file: IO[bytes]) -> None:
        file.write(b"half")
        raise KeyError("x")

    with pytest.raises(KeyError):
        files.atomic_write(path, write)
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["a.pt"])


@pytest.mark.reliability("C1")
@pytest.mark.parametrize(
    ("code", "fix"),
    [
        (errno.ENOSPC, "make room on that disk, or choose another folder"),
        (errno.EDQUOT, "make room in your quota of that disk, or choose another folder"),
        (
            errno.EFBIG,
            "make room there, or raise the limit of a file's size (ulimit -f)",
        ),
        (errno.EACCES, "choose a folder that you may write to"),
        (errno.EROFS, "choose a folder that you may write to"),
        (errno.EIO, "choose another path, or mend the disk"),
    ],
    ids=errno.errorcode.get,
)
def test_what_cannot_be_written_says_why_and_what_to_do(
    tmp_path: Path, use: Callable[[files.Disk], Any], code: int, fix: str
) -> None:
    """The path, the system's reason, and for a full disk how much is free."""
    use(Recording(1, OSError(code, os.strerror(code))))
    path = tmp_path / "a.pt"
    with pytest.raises(FileError) as caught:
        files.atomic_write(path, b"x")
    first, last = str(caught.value).splitlines()
    assert first.startswith(f"{path} cannot be written: {os.strerror(code)}")
    said = "bytes are free there, and about 1 are needed." in first
    assert said is (code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    assert last == f"fix: {fix}"


@pytest.mark.reliability("C1")
def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    """With a real limit of the kernel, in a real process."""
    path = tmp_path / "a.pt"
    files.atomic_write(path, b"old")
    script = (
        "import resource, signal, sys\n"
        "from hookloop import files, HookloopError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: files.atomic_write(sys.argv[1], bytes(100_000))\n"
        "except HookloopError as error: print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    first, fix = ran.stdout.splitlines()
    assert first.startswith(f"{path} cannot be written: File too large; ")
    assert first.endswith(" bytes are free there, and about 100,000 are needed.")
    assert fix == "fix: make room there, or raise the limit of a file's size (ulimit -f)"
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["a.pt"])


# -- folders with a manifest ---------------------------------------------------------------


CONTENTS = {"a.json": b"{}", "b.bin": bytes(range(256))}


def test_a_folder_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Also where it replaces an older one."""
    path = tmp_path / "deep" / "state"
    files.replace_folder(path, {"old": b"1"})
    files.replace_folder(path, CONTENTS)
    assert reading.read_folder(path) == CONTENTS
    assert names(path) == ["a.json", "b.bin", "manifest.json"]
    assert names(path.parent) == ["state"]


def test_a_folder_s_files_may_be_written_piece_by_piece(
    tmp_path: Path, use: Callable[[files.Disk], Any]
) -> None:
    """A function gets what takes bytes and memoryviews; the manifest's sums are those of the whole,
    and every file is flushed before the manifest is made.
    """

    def write(out: files.Out) -> None:
        out.write(b"one")
        out.write(memoryview(bytearray(b"two")))

    disk = use(Recording())
    files.replace_folder(tmp_path / "state", {"a": write, "b": b"three"})
    assert disk.done == "make open sync open sync open sync sync_folder replace sync_folder".split()
    assert json.loads((tmp_path / "state/manifest.json").read_bytes())["files"] == {
        "a": {"size": 6, "sha256": hashlib.sha256(b"onetwo").hexdigest()},
        "b": {"size": 5, "sha256": hashlib.sha256(b"three").hexdigest()},
    }
    assert reading.read_folder(tmp_path / "state") == {"a": b"onetwo", "b": b"three"}


def operations_of_a_replacement(folder: Path) -> list[str]:
    disk = Recording()
    files.disk = disk
    files.replace_folder(folder, CONTENTS)
    return disk.done


@pytest.mark.parametrize("error", [OSError(errno.EIO, "bad"), KeyboardInterrupt()], ids=repr)
def test_whatever_fails_a_whole_folder_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """At every operation of replacing one, the old or the new content is found again.

    Once the new one is durable, an old one that cannot be deleted is no failure.
    """
    monkeypatch.setattr(files, "disk", files.disk)
    files.replace_folder(tmp_path / "trial", {"old": b"1"})
    operations = operations_of_a_replacement(tmp_path / "trial")
    for place in range(len(operations)):
        path = tmp_path / f"{place}" / "state"
        files.disk = files.Disk()
        files.replace_folder(path, {"old": b"1"})
        files.disk = Recording(place, error)
        durable = "sync_folder" not in operations[place:] and isinstance(error, OSError)
        with nullcontext() if durable else pytest.raises((FileError, KeyboardInterrupt)):
            files.replace_folder(path, CONTENTS)
        files.disk = files.Disk()
        assert reading.read_folder(path) in ({"old": b"1"}, CONTENTS), operations[: place + 1]
        files.replace_folder(path, CONTENTS)
        assert reading.read_folder(path) == CONTENTS
        left = [name for name in names(path.parent) if not name.startswith("..state.previous.")]
        assert left == ["state"], operations[: place + 1]  # else: what a sweep takes


@pytest.mark.reliability("B2")
def test_a_process_killed_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    """The old folder stands aside under a name at which it is found, and is not swept away."""
    path = tmp_path / "state"
    files.replace_folder(path, CONTENTS)
    script = (
        "import os, sys\n"
        "from hookloop import files\n"
        "class Dies(files.Disk):\n"
        "    def replace(self, source, target):\n"
        "        if target.name == 'state': os.kill(os.getpid(), 9)\n"
        "        super().replace(source, target)\n"
        "files.disk = Dies()\n"
        "files.replace_folder(sys.argv[1], {'new': b'2'})\n"
    )
    assert subprocess.run([sys.executable, "-c", script, path], check=False).returncode == -9
    assert not path.exists()
    assert len(files.sweep(tmp_path)) == 1
    assert reading.read_folder(path) == CONTENTS
    files.replace_folder(path, {"new": b"2"})
    assert names(tmp_path) == ["state"]


def damage(path: Path, what: str) -> None:
    file = path / "b.bin"
    if what == "missing":
        file.unlink()
    elif what == "shorter":
        file.write_bytes(file.read_bytes()[:-1])
    elif what == "one bit":
        data = bytearray(file.read_bytes())
        data[7] ^= 1
        file.write_bytes(data)
    elif what == "a link":
        file.rename(path.parent / "elsewhere")
        file.symlink_to(path.parent / "elsewhere")
    elif what == "a folder":
        file.unlink()
        file.mkdir()
    elif what == "no manifest":
        (path / "manifest.json").unlink()
    else:
        (path / "manifest.json").write_text(what)


ESCAPES = {"version": 1, "files": {"../../etc/passwd": {"size": 1, "sha256": ""}}}
DAMAGES = [
    "missing",
    "shorter",
    "one bit",
    "a link",
    "a folder",
    "no manifest",
    "",
    "[]",
    "null",
    "{}",
    '{"version": 1}',
    '{"version": 2, "files": {}}',
    '{"version": 1, "files": []}',
    '{"version": 1, "files": {"b.bin": 3}}',
    '{"version": 1, "files": {"b.bin": {}}}',
    "[" * 100_000,
    json.dumps(ESCAPES),
]


@pytest.mark.parametrize("what", DAMAGES, ids=[damage[:30] or "empty" for damage in DAMAGES])
def test_a_damaged_folder_is_refused(tmp_path: Path, what: str) -> None:
    """Whatever is wrong, with a sentence and a ``fix:``."""
    path = tmp_path / "state"
    files.replace_folder(path, CONTENTS)
    damage(path, what)
    with pytest.raises(StateError, match=r"\nfix: "):
        reading.read_folder(path)


def test_a_folder_of_somebody_else_is_neither_replaced_nor_moved(tmp_path: Path) -> None:
    """What hookloop did not write stays where it is."""
    theirs = tmp_path / "runs"
    theirs.mkdir()
    (theirs / "thesis.tex").write_text("years of work")
    ours = tmp_path / "state"
    files.replace_folder(ours, CONTENTS)
    (ours / "notes.txt").write_text("mine")
    for path in (theirs, ours):
        with pytest.raises(FileError, match="holds what hookloop did not write"):
            files.replace_folder(path, CONTENTS)
    assert names(tmp_path) == ["runs", "state"]
    assert names(theirs) == ["thesis.tex"]
    assert names(ours) == ["a.json", "b.bin", "manifest.json", "notes.txt"]


# -- deleting ---------------------------------------------------------------


@pytest.mark.reliability("B7")
def test_deleting_a_folder_keeps_what_is_not_ours(tmp_path: Path) -> None:
    """By manifest, and nothing else."""
    whole, mixed = tmp_path / "whole", tmp_path / "mixed"
    for path in (whole, mixed):
        files.replace_folder(path, CONTENTS)
    (mixed / "notes.txt").write_text("mine")
    files.delete_folder(whole)
    files.delete_folder(mixed)
    assert (names(tmp_path), names(mixed)) == (["mixed"], ["notes.txt"])


@pytest.mark.reliability("B5")
def test_nobody_meets_half_of_a_folder_that_is_being_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is renamed first; whoever dies then leaves a temporary folder, which is swept."""

    class Dies(files.Disk):
        def delete(self, path: Path) -> None:
            raise KeyboardInterrupt

    path = tmp_path / "state"
    files.replace_folder(path, CONTENTS)
    monkeypatch.setattr(files, "disk", Dies())
    with pytest.raises(KeyboardInterrupt):
        files.delete_folder(path)
    assert not path.exists()
    assert len(files.sweep(tmp_path, "state", locked=True)) == 1
    assert names(tmp_path) == []


def test_a_manifest_cannot_have_anything_else_deleted(tmp_path: Path) -> None:
    """Whatever names somebody wrote into it."""
    path = tmp_path / "state"
    files.replace_folder(path, CONTENTS)
    (tmp_path / "thesis.tex").write_text("years of work")
    entry = {"size": 1, "sha256": ""}
    manifest = {
        "version": 1,
        "files": {"../thesis.tex": entry, str(tmp_path / "thesis.tex"): entry},
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    files.delete_folder(path)
    assert names(tmp_path) == ["state", "thesis.tex"]


def test_a_folder_with_a_damaged_manifest_is_deleted_by_the_names_that_are_known(
    tmp_path: Path,
) -> None:
    """Of the owner of the folder; what is not among them stays."""
    whole, mixed = tmp_path / "whole", tmp_path / "mixed"
    for path in (whole, mixed):
        files.replace_folder(path, CONTENTS)
        (path / "manifest.json").write_text("damaged")
    (mixed / "notes.txt").write_text("mine")
    files.delete_folder(whole, CONTENTS.keys())
    files.delete_folder(mixed, CONTENTS.keys())
    assert (names(tmp_path), names(mixed)) == (["mixed"], ["notes.txt"])


def test_deleting_what_is_gone_already_is_no_error(tmp_path: Path) -> None:
    """Two runs may tidy up the same file."""
    files.delete(tmp_path / "absent")


@pytest.mark.reliability("B7")
def test_a_sweep_takes_only_temporary_files_of_dead_processes(tmp_path: Path) -> None:
    """By our own pattern; those of a living process are in use."""
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1, check=True
    )
    pid = int(dead.stdout)
    kept = [
        "a.pt",
        f".a.pt.{os.getpid()}-0123abcd.tmp",
        f".a.pt.{pid}-0123abc.tmp",
        f"a.pt.{pid}-0123abcd.tmp",
        ".a.pt.previous",
        ".hidden.tmp",
    ]
    left = [f".a.pt.{pid}-0123abcd.tmp", f".b.csv.{pid}-ffffffff.tmp"]
    for name in (*kept, *left):
        (tmp_path / name).write_bytes(b"")
    folder = tmp_path / f".state.{pid}-00000000.tmp"
    folder.mkdir()
    (folder / "half").write_bytes(b"")
    assert [path.name for path in files.sweep(tmp_path, "a.pt")] == left[:1]
    assert sorted(path.name for path in files.sweep(tmp_path)) == sorted([left[1], folder.name])
    assert names(tmp_path) == sorted(kept)


def test_a_sweep_under_the_lock_takes_them_all(tmp_path: Path) -> None:
    """In a container a dead process had the number of this one, most of the time."""
    left = tmp_path / f".state.{os.getpid()}-0123abcd.tmp"
    left.write_bytes(b"")
    assert files.sweep(tmp_path) == []
    assert files.sweep(tmp_path, locked=True) == [left]


# -- before a run ---------------------------------------------------------------


def test_preparing_makes_the_folder_and_leaves_nothing_in_it(tmp_path: Path) -> None:
    """That one can write there is tried, and seen no more."""
    files.prepare(tmp_path / "deep" / "a.pt", Loop(model=None), "saver")
    assert names(tmp_path / "deep") == []


@pytest.mark.reliability("B7")
def test_preparing_sweeps_what_dead_processes_left_of_the_file(tmp_path: Path) -> None:
    """Also of those of a template, in the folders that it may mean; nothing else."""
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1, check=True
    )
    end = f".{int(dead.stdout)}-0123abcd.tmp"
    (tmp_path / "run[1]").mkdir()
    left = [f"run[1]/.m-3.pt{end}", f".trial{end}", f"run[1]/.n-3.pt{end}", f".m-3.pt{end}"]
    for name in left:
        (tmp_path / name).write_bytes(b"")
    files.prepare(tmp_path / "run[{step}]" / "m-{epoch:02d}.pt", Loop(model=None), "saver")
    assert [name for name in left if (tmp_path / name).exists()] == left[2:]


def test_preparing_a_template_makes_no_folder_with_braces(tmp_path: Path) -> None:
    """Folders whose names are not known yet are made when they are."""
    files.prepare(tmp_path / "deep" / "{epoch}" / "a.pt", Loop(model=None), "saver")
    assert (names(tmp_path), names(tmp_path / "deep")) == (["deep"], [])


def test_one_path_belongs_to_one_callback_of_a_run(tmp_path: Path) -> None:
    """Also where it is spelt in another way; another run may have it."""
    loop = Loop(model=None)
    files.prepare(tmp_path / "a.csv", loop, "csv_logger")
    files.prepare(tmp_path / "a.csv", loop, "csv_logger")
    files.prepare(tmp_path / "a.csv", Loop(model=None), "csv_logger#2")
    again = tmp_path / "sub" / ".." / "a.csv"
    with pytest.raises(FileError) as caught:
        files.prepare(again, loop, "csv_logger#2")
    assert str(caught.value) == (
        f"csv_logger#2 and csv_logger both write {again}.\nfix: give each a path of its own"
    )


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    """Before training, with what is wrong with it."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path, fix in {
        tmp_path / "file" / "a.pt": "choose a folder: a part of the path is a file",
        tmp_path / "file" / "deep" / "a.pt": "choose a folder: a part of the path is a file",
        tmp_path / "folder": "choose a file name: this path is a folder",
    }.items():
        with pytest.raises(FileError) as caught:
            files.prepare(path, Loop(model=None), "saver")
        assert str(caught.value).splitlines()[-1] == f"fix: {fix}"


def test_a_state_folder_of_an_earlier_run_may_be_written_again(tmp_path: Path) -> None:
    """It will be replaced as a whole."""
    files.replace_folder(tmp_path / "state", CONTENTS)
    files.prepare(tmp_path / "state", Loop(model=None), "saver")


# -- locks ---------------------------------------------------------------


@pytest.mark.reliability("I1", "I2")
def test_a_locked_folder_is_refused_to_another_process(tmp_path: Path) -> None:
    """The error names who holds it, since when; however that process ends, the folder is free."""
    script = (
        "import sys\n"
        "from hookloop import files\n"
        "lock = files.Lock(sys.argv[1])\n"
        "lock.acquire()\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    folder = tmp_path / "backup"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    lock = files.Lock(folder)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FileError) as caught:
            lock.acquire()
        holder.kill()
    who = rf"process {holder.pid} on {socket.gethostname()}, since \d+-\d+-\d+ \d+:\d+:\d+ \S+\."
    first, fix = str(caught.value).splitlines()
    assert re.fullmatch(rf"{re.escape(str(folder))} is in use by {who}", first)
    assert fix == "fix: wait for it to end, or choose another folder"
    lock.acquire()
    lock.release()
    lock.acquire()
    lock.release()


def test_two_locks_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    """Two callbacks of one run cannot share a backup folder."""
    one, two = files.Lock(tmp_path), files.Lock(tmp_path)
    one.acquire()
    with pytest.raises(FileError, match="is in use by process"):
        two.acquire()
    one.release()
    two.acquire()
    two.release()


def test_a_lock_can_be_deleted_with_its_folder(tmp_path: Path) -> None:
    """Unless something else is in it; a lock that is not held deletes nothing."""
    folder = tmp_path / "backup"
    one, two = files.Lock(folder), files.Lock(folder)
    one.acquire()
    two.release(delete=True)
    (folder / "notes.txt").write_text("mine")
    one.release(delete=True)
    assert names(folder) == ["notes.txt"]
    (folder / "notes.txt").unlink()
    one.acquire()
    one.release(delete=True)
    assert names(tmp_path) == []


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system without locks."""
    import fcntl

    def flock(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.reliability("I4")
@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_folder_that_another_machine_takes_over_is_given_up(
    tmp_path: Path,
) -> None:
    """A warning says what is not kept; the file that names the holder is looked at at each save."""
    lock = files.Lock(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"without locks \(.*No locks available(.|\n)*fix: "):
        lock.acquire()
    lock.check()
    (tmp_path / ".lock-holder").write_text("process 7 on another, since a moment")
    with pytest.raises(FileError, match="is in use by process 7 on another, since a moment"):
        lock.check()
    lock.release(delete=True)
    assert names(tmp_path) == [".lock", ".lock-holder"]  # they are the other's now


@pytest.mark.reliability("I4")
@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_living_process_of_this_machine_is_respected(tmp_path: Path) -> None:
    """A dead one, of which only the file is left, is in nobody's way."""
    host, lock = socket.gethostname(), files.Lock(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as other:
        (tmp_path / ".lock-holder").write_text(f"process {other.pid} on {host}, since long")
        with pytest.raises(FileError, match=f"in use by process {other.pid} on {host}"):
            lock.acquire()
        other.communicate(b"\n")
    with pytest.warns(RuntimeWarning, match="without locks"):
        lock.acquire()
    lock.release(delete=True)
    assert not tmp_path.exists()


def test_a_folder_that_cannot_be_made_cannot_be_locked(tmp_path: Path) -> None:
    """With the same sentence as any other file."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match=r"fix: choose a folder: a part of the path is a file"):
        files.Lock(tmp_path / "file" / "backup").acquire()


# -- the writer thread ---------------------------------------------------------------


@pytest.mark.reliability("B9")
def test_background_jobs_run_one_after_the_other_in_order() -> None:
    """So that a backup is durable only after every file it speaks of."""
    done: list[int] = []
    futures = [files.background(lambda number=number: done.append(number)) for number in range(50)]
    for future in futures:
        future.result()
    assert done == list(range(50))


def test_a_background_job_s_failure_reaches_whoever_asks() -> None:
    """And the jobs after it run."""
    failed = files.background(lambda: 1 / 0)
    after = files.background(lambda: "ran")
    with pytest.raises(ZeroDivisionError):
        failed.result()
    assert after.result() == "ran"


def test_what_is_done_at_once_comes_after_what_the_writer_was_given_before() -> None:
    """As a copy of a file that is deleted next; what it raises is the future's."""
    done: list[str] = []
    gate = threading.Event()
    files.background(lambda: (gate.wait(30), done.append("before")))
    threading.Timer(0.1, gate.set).start()
    assert files.at_once(lambda: done.append("now")).done()
    assert done == ["before", "now"]
    with pytest.raises(ZeroDivisionError):
        files.at_once(lambda: 1 // 0).result()


def test_there_is_a_writer_while_the_interpreter_ends() -> None:
    """Python ends its threads before it runs what is left to do."""
    script = """
import atexit
from hookloop import files

def save():
    print(files.background(lambda: 3).result(), files.at_once(lambda: 4).result())

files.background(int)
atexit.register(save)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.stdout, ended.stderr) == ("3 4\n", "")
