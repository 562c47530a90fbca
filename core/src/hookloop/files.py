"""Every effect on files: replacing whole, deleting only one's own, locks, the one writer thread.

Whatever replaces a file goes through here, so that at every instant the old or the new file is
there whole, also after a power cut. All effects are methods of `Disk`, which tests replace by one
that records them, fails, or stops.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol
from weakref import WeakKeyDictionary

from hookloop.errors import FileError, StateError, warn
from hookloop.reading import MANIFEST, aside_of, free, read_manifest, sum_of

Content = bytes | Callable[[IO[bytes]], object]

#: What a disk answers that has no room, or no more for this user, or for this process.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_FIELD = re.compile(r"\{[^{}]*\}")
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)-[0-9a-f]{8}\.tmp")
_claims: WeakKeyDictionary[Any, dict[Path, str]] = WeakKeyDictionary()


class Out(Protocol):
    """What takes the content of a file, in order: bytes, or a memoryview of them."""

    def write(self, data: bytes | memoryview, /) -> int: ...


#: For each name of a file, its bytes, or a function that writes them in order.
_Contents = Mapping[str, bytes | Callable[[Out], object]]


class Disk:
    """The file system calls that change something."""

    def make(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    def open(self, path: Path) -> IO[bytes]:
        return open(path, "xb")

    def sync(self, file: IO[bytes]) -> None:
        file.flush()
        os.fsync(file.fileno())

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def delete(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def delete_folder(self, folder: Path) -> None:
        folder.rmdir()


disk = Disk()


# -- replacing ---------------------------------------------------------------


def make_folder(folder: Path) -> None:
    """Make a folder with its parents durably, or what is written in it may be lost with it."""
    if folder.is_dir():
        return
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    disk.make(folder)
    for one in missing:
        disk.sync_folder(one.parent)


def atomic_write(
    path: str | os.PathLike[str], content: Content, *, needed: Callable[[], int] | None = None
) -> None:
    """Replace a file, or make it with its folders; at every instant the old or new one is whole.

    Args:
        path: The file.
        content: Its bytes, or a function that writes them into a binary file.
        needed: Gives about how many bytes that are; asked only if writing fails.

    Raises:
        FileError: If it cannot be written; the old file is there as it was.
    """
    target = Path(path)
    with _replacing(target, content.__len__ if isinstance(content, bytes) else needed) as temporary:
        make_folder(target.parent)
        _write(temporary, content)
        disk.replace(temporary, target)
        disk.sync_folder(target.parent)  # the folder too, or the rename itself may be lost


def replace_folder(
    path: str | os.PathLike[str],
    contents: _Contents,
    *,
    needed: Callable[[], int] | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Make a folder of files with a manifest of their sizes and SHA-256 sums, renamed into place.

    Args:
        path: The folder. One that `replace_folder` made before is replaced.
        contents: For each file name, its bytes, or a function that writes them in order.
        needed: Gives about how many bytes that are; asked only if writing fails.
        about: What else the manifest says: plain data for people who look at it.

    Raises:
        FileError: If it cannot be written; nothing is there under the name then, or the old one.
    """
    target = Path(path)
    _refuse_foreign(target)
    with _replacing(target, needed) as temporary:
        make_folder(target.parent)
        disk.make(temporary)
        _fill(temporary, contents, about or {})
        _swap(temporary, target)


@contextmanager
def _replacing(target: Path, needed: Callable[[], int] | None) -> Iterator[Path]:
    """Give a temporary name beside the target; after a failure nothing is left under it."""
    temporary = _temporary(target)
    try:
        yield temporary
    except BaseException as error:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            _try_delete(temporary)
        if isinstance(error, OSError) and not isinstance(error, FileError):
            raise file_error(target, error, needed() if needed is not None else None) from error
        raise


def _fill(folder: Path, contents: _Contents, about: Mapping[str, Any]) -> None:
    sums = {}
    for name, content in contents.items():
        with disk.open(folder / name) as file:
            summed = Summed(file)
            with summed.buffered() as out:
                out.write(content) if isinstance(content, bytes) else content(out)
            disk.sync(file)
        sums[name] = {"size": summed.size, "sha256": summed.sum.hexdigest()}
    said = {"version": 1, **about, "files": sums}
    _write(folder / MANIFEST, json.dumps({**said, "sha256": sum_of(said)}, indent=1).encode())
    disk.sync_folder(folder)


class Summed(io.RawIOBase):
    """Writes to a file what it gets, and adds up what a manifest says of it.

    Both are done without the interpreter's lock, so that training goes on meanwhile.

    Attributes:
        size: Bytes so far.
        sum: Their SHA-256 sum.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.size, self.sum = file, 0, hashlib.sha256()

    def buffered(self) -> io.BufferedWriter:
        """Give what takes small pieces together, as each call asks for the lock; large ones not."""
        return io.BufferedWriter(self, 2**20)

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.sum.update(data)
        self.size += len(data)
        return self._file.write(data)


def _swap(temporary: Path, target: Path) -> None:
    """Rename a folder into place. A folder cannot replace another in one step.

    The old one stands aside meanwhile, under a name at which `whole_folder` looks for it.
    """
    aside = aside_of(target)
    if target.exists():
        if aside.exists():  # a process died before it deleted that, maybe before it did this:
            disk.sync_folder(target.parent)
            delete_folder(aside)
        disk.replace(target, aside)
    try:
        disk.replace(temporary, target)
    except OSError:
        if aside.exists():
            disk.replace(aside, target)
        raise
    disk.sync_folder(target.parent)
    with suppress(OSError):  # the new one is durable; the next replacement or sweep tries again
        if aside.exists():
            delete_folder(aside)


def _refuse_foreign(target: Path) -> None:
    if not target.exists():
        return
    try:
        ours = {*read_manifest(target)["files"], MANIFEST}
    except StateError:
        ours = set()
    if not ours or any(entry.name not in ours for entry in target.iterdir()):
        message = f"{target} is there already, and holds what hookloop did not write."
        raise FileError(message, fix="choose a folder that does not exist yet")


def _write(path: Path, content: Content) -> None:
    """Write a new file durably."""
    with disk.open(path) as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            content(file)
        disk.sync(file)


def _temporary(target: Path) -> Path:
    """Name a neighbour: the same folder, or renaming would be copying."""
    return target.parent / f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp"


def file_error(
    path: str | os.PathLike[str], error: OSError, needed: int | None = None
) -> FileError:
    """Say what failed at which path, and what may help.

    Args:
        path: What was to be written.
        error: What the system said.
        needed: About how many bytes it would have had, where that is known.
    """
    room = f"; {free(path):,} bytes are free there" if error.errno in NO_ROOM else ""
    room += f", and about {needed:,} are needed" if room and needed else ""
    fixes = {
        errno.ENOSPC: "make room on that disk, or choose another folder",
        errno.EDQUOT: "make room in your quota of that disk, or choose another folder",
        errno.EFBIG: "make room there, or raise the limit of a file's size (ulimit -f)",
        errno.EACCES: "choose a folder that you may write to",
        errno.EROFS: "choose a folder that you may write to",
        errno.ENOTDIR: "choose a folder: a part of the path is a file",
        errno.EEXIST: "choose a folder: a part of the path is a file",
        errno.EISDIR: "choose a file name: this path is a folder",
    }
    fix = fixes.get(error.errno or 0, "choose another path, or mend the disk")
    return FileError(
        f"{os.fspath(path)} cannot be written: {error.strerror or error}{room}.", fix=fix
    )


# -- deleting ---------------------------------------------------------------


def delete(path: str | os.PathLike[str]) -> None:
    """Delete a file that this run, or one that it continues, wrote; it may be gone already."""
    disk.delete(Path(path))


def delete_folder(path: str | os.PathLike[str], names: Collection[str] | None = None) -> None:
    """Delete a folder that `replace_folder` made: what its manifest names, and nothing else.

    A folder that holds anything else is kept, with what is not ours in it.

    Args:
        path: The folder.
        names: What it was made of, where its manifest may be damaged.
    """
    folder = Path(path)
    inside = {entry.name for entry in folder.iterdir()}
    known = names if names is not None else read_manifest(folder)["files"] if inside else ()
    ours = {*known, MANIFEST} & inside  # so no name in a manifest leads out of the folder
    if ours == inside:  # renamed first, so that nobody ever meets half of it
        folder = _temporary(folder)
        disk.replace(Path(path), folder)
    for name in sorted(ours):
        disk.delete(folder / name)
    if ours == inside:
        disk.delete_folder(folder)


def sweep(folder: str | os.PathLike[str], name: str = "*", *, locked: bool = False) -> list[Path]:
    """Delete temporary files that processes which are no more left behind.

    Args:
        folder: Where to look; not below it.
        name: Pattern of the names for which they stood in.
        locked: Whether the caller holds the lock of the folder, so that all of them are left
            over. In containers a dead process has the number of a living one, most of the time.

    Returns:
        What was deleted.
    """
    found = []
    for path in Path(folder).glob(f".{name}.*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and (locked or not _is_alive(int(match["pid"]))):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else disk.delete(path)
            found.append(path)
    return found


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def _try_delete(path: Path) -> None:
    with suppress(OSError):  # the error that led here is the one to report
        disk.delete(path)


# -- before a run ---------------------------------------------------------------


def prepare(path: str | os.PathLike[str], loop: Any, who: str) -> None:
    """Make the folders of a file and try that one can write there, before training starts.

    What dead processes left of that file, or of files of that template, is deleted.

    Args:
        path: The file, or the template of its names.
        loop: The run; one path belongs to one callback of a run.
        who: That callback's name.

    Raises:
        FileError: If the folder cannot be written, or another callback of the run has the path.
    """
    target = Path(os.path.abspath(path))
    owners = _claims.setdefault(loop, {})
    if owners.setdefault(target, who) != who:
        message = f"{who} and {owners[target]} both write {os.fspath(path)}."
        raise FileError(message, fix="give each a path of its own")
    folder = target.parent
    while "{" in str(folder):  # fields of a template: their folders are made when they are known
        folder = folder.parent
    trial = _temporary(folder / "trial")
    try:
        if target.is_dir() and (target.suffix or not (target / MANIFEST).is_file()):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        make_folder(folder)
        disk.open(trial).close()
        disk.delete(trial)
    except OSError as error:
        raise file_error(path, error) from error
    sweep(folder, "trial")
    places, name = os.path.split(_FIELD.sub("*", glob.escape(str(target))))
    for place in glob.glob(places):
        sweep(place, name)
        sweep(place, f".{name}.previous")


class Lock:
    """Keeps a folder for one run; the lock is the kernel's, so it dies with its process.

    A file beside it says who has the folder. On a file system without locks that file is all there
    is: another process of this machine is still refused, and one of another machine takes the
    folder over, which ``check`` finds out.

    Args:
        folder: The folder; ``acquire`` makes it if it is not there.

    Raises:
        FileError: From ``acquire``, if another process holds it, naming that process, or if it
            cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        from filelock import FileLock

        self.folder = Path(folder)
        self._lock = FileLock(self.folder / ".lock")
        self._holder = self.folder / ".lock-holder"
        self._lease = ""

    def acquire(self) -> None:
        import socket

        from filelock import Timeout

        now = time.strftime("%Y-%m-%d %H:%M:%S %z")
        me = f"process {os.getpid()} on {socket.gethostname()}, since {now}"
        try:
            make_folder(self.folder)
            # Not at once: who has just locked it may not have written yet who that is.
            self._lock.acquire(timeout=0.3, poll_interval=0.05)
        except Timeout:
            raise self._in_use() from None
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise file_error(self.folder, error) from error
            self._lend(me, socket.gethostname(), error)
        self.sweep(self._holder.name)
        atomic_write(self._holder, me.encode())

    def sweep(self, name: str) -> None:
        """Delete temporary files of that name: as this is the only run here, all are left over."""
        sweep(self.folder, name, locked=self._lock.is_locked)

    def _lend(self, me: str, host: str, error: Exception) -> None:
        """Go without a lock, unless the folder is plainly in use."""
        said = re.match(rf"process (\d+) on {re.escape(host)},", self._who())
        if said and int(said[1]) != os.getpid() and _is_alive(int(said[1])):
            raise self._in_use()
        self._lease = me
        warn(
            f"{self.folder} is on a file system without locks ({error}): nothing keeps a run on "
            "another machine from taking it over.\nfix: see that one run at a time uses it, or "
            "choose a folder on a local disk",
            RuntimeWarning,
        )

    def check(self) -> None:
        """Refuse to go on where another process has taken the folder over, for want of locks."""
        if self._lease and self._who() != self._lease:
            raise self._in_use()

    def _who(self) -> str:
        with suppress(OSError):
            return self._holder.read_text(errors="replace")
        return "another process"

    def _in_use(self) -> FileError:
        fix = "wait for it to end, or choose another folder"
        return FileError(f"{self.folder} is in use by {self._who()}.", fix=fix)

    def release(self, *, delete: bool = False) -> None:
        """Let go of the folder; does nothing if it is not held.

        Args:
            delete: Whether to delete the lock's own files, and the folder if nothing else is in it.
        """
        leased, self._lease = self._lease, ""
        if not self._lock.is_locked and (not leased or self._who() != leased):
            return
        _try_delete(self._holder)
        if delete:  # while it is held: afterwards it may be somebody else's
            _try_delete(Path(self._lock.lock_file))
            with suppress(OSError):
                disk.delete_folder(self.folder)
        self._lock.release()


# -- in the background ---------------------------------------------------------------


def background(job: Callable[[], Any]) -> Future[Any]:
    """Have the one writer thread do a job, after all that it was given before.

    Returns:
        Its future: ``result()`` waits for it, and raises what it raised.
    """
    try:
        return _writer().submit(job)
    except RuntimeError:  # the interpreter is ending, and has ended the writer
        return _done(job)


def at_once(job: Callable[[], Any]) -> Future[Any]:
    """Do a job in this thread, after all that the writer was given before.

    Returns:
        Its future, which is done; what interrupts the job is raised.
    """
    background(int).result()
    return _done(job)


def _done(job: Callable[[], Any]) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(job())
    except Exception as error:
        future.set_exception(error)
    return future


@cache
def _writer() -> ThreadPoolExecutor:
    # A forked child has no thread, but would believe in the one of its parent.
    os.register_at_fork(after_in_child=_writer.cache_clear)
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="hookloop-writer")
