"""Every effect on files: replacing whole, deleting only one's own, locks, the one writer thread.

Whatever replaces a file goes through here, so that at every instant the old or the new file is
there whole, also after a power cut. All effects are methods of `Disk`, which tests replace by one
that records them, fails, or stops.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol
from weakref import WeakKeyDictionary

from hookloop.errors import FileError, StateError

MANIFEST = "manifest.json"
Content = bytes | Callable[[IO[bytes]], object]

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)-[0-9a-f]{8}\.tmp")
_claims: WeakKeyDictionary[Any, dict[Path, str]] = WeakKeyDictionary()


class Out(Protocol):
    """What takes the content of a file, in order: bytes, or a memoryview of them."""

    def write(self, data: bytes | memoryview, /) -> int: ...


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


def atomic_write(path: str | os.PathLike[str], content: Content) -> None:
    """Replace a file, or make it with its folders; at every instant the old or new one is whole.

    Args:
        path: The file.
        content: Its bytes, or a function that writes them into a binary file.

    Raises:
        FileError: If it cannot be written; the old file is there as it was.
    """
    target = Path(path)
    with _replacing(target) as temporary:
        disk.make(target.parent)
        _write(temporary, content)
        disk.replace(temporary, target)
        disk.sync_folder(target.parent)  # the folder too, or the rename itself may be lost


def replace_folder(
    path: str | os.PathLike[str], contents: Mapping[str, bytes | Callable[[Out], object]]
) -> None:
    """Make a folder of files with a manifest of their sizes and SHA-256 sums, renamed into place.

    Args:
        path: The folder. One that `replace_folder` made before is replaced.
        contents: For each file name, its bytes, or a function that writes them in order.

    Raises:
        FileError: If it cannot be written; nothing is there under the name then, or the old one.
    """
    target = Path(path)
    _refuse_foreign(target)
    with _replacing(target) as temporary:
        disk.make(temporary)
        _fill(temporary, contents)
        _swap(temporary, target)


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
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
            raise file_error(target, error) from error
        raise


def _fill(folder: Path, contents: Mapping[str, bytes | Callable[[Out], object]]) -> None:
    sums = {}
    for name, content in contents.items():
        with disk.open(folder / name) as file:
            out = _Summed(file)
            out.write(content) if isinstance(content, bytes) else content(out)
            disk.sync(file)
        sums[name] = {"size": out.size, "sha256": out.sum.hexdigest()}
    manifest = {"version": 1, "files": sums}
    _write(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
    disk.sync_folder(folder)


class _Summed:
    """Writes to a file what it gets, and adds up what a manifest says of it.

    Both are done without the interpreter's lock, for all that is more than a few kilobytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.size, self.sum = file, 0, hashlib.sha256()

    def write(self, data: bytes | memoryview, /) -> int:
        self.sum.update(data)
        self.size += len(data)
        return self.file.write(data)


def _swap(temporary: Path, target: Path) -> None:
    """Rename a folder into place. A folder cannot replace another in one step.

    The old one stands aside meanwhile, under a name at which `whole_folder` looks for it.
    """
    aside = _aside(target)
    if target.exists():
        if aside.exists():
            delete_folder(aside)
        disk.replace(target, aside)
    try:
        disk.replace(temporary, target)
    except OSError:
        if aside.exists():
            disk.replace(aside, target)
        raise
    disk.sync_folder(target.parent)
    if aside.exists():
        delete_folder(aside)


def _aside(target: Path) -> Path:
    return target.parent / f".{target.name}.previous"


def whole_folder(path: str | os.PathLike[str]) -> Path:
    """Find a folder of `replace_folder`, also if the process died while it was replacing one."""
    folder = Path(path)
    return folder if folder.exists() or not _aside(folder).exists() else _aside(folder)


def _refuse_foreign(target: Path) -> None:
    if not target.exists():
        return
    try:
        ours = {*_manifest(target), MANIFEST}
    except StateError:
        ours = set()
    if not ours or any(entry.name not in ours for entry in target.iterdir()):
        message = f"{target} is there already, and holds what hookloop did not write."
        raise FileError(message, fix="choose a folder that does not exist yet")


def read_folder(path: str | os.PathLike[str]) -> dict[str, bytes]:
    """Read what `replace_folder` wrote, and check every byte of it.

    Raises:
        StateError: If a file is missing, has changed, or is not a plain file of this folder.
    """
    folder = whole_folder(path)
    contents = {}
    for name, entry in _manifest(folder).items():
        file = folder / name
        if Path(name).name != name or file.is_symlink() or not file.is_file():
            raise StateError(f"{file} is missing, or is no plain file.", fix="use an older one")
        data = file.read_bytes()
        if len(data) != entry["size"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            message = f"{file} is damaged: its size or SHA-256 sum is not that of the manifest."
            raise StateError(message, fix="use an older one")
        contents[name] = data
    return contents


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        entries = {str(name): dict(entry) for name, entry in manifest["files"].items()}
        if manifest["version"] != 1 or any({"size", "sha256"} - set(e) for e in entries.values()):
            raise KeyError("version")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"{folder} is no saved state: its {MANIFEST} cannot be read ({error})."
        raise StateError(message, fix="name the folder of an intact state") from None
    return entries


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


def file_error(path: str | os.PathLike[str], error: OSError) -> FileError:
    """Say what failed at which path, and what may help."""
    room = f"; {_free(Path(path)):,} bytes are free there" if error.errno == errno.ENOSPC else ""
    fixes = {
        errno.ENOSPC: "make room on that disk, or choose another folder",
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


def _free(path: Path) -> int:
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


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
    known = names if names is not None else _manifest(folder) if inside else ()
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
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _try_delete(path: Path) -> None:
    with suppress(OSError):  # the error that led here is the one to report
        disk.delete(path)


# -- before a run ---------------------------------------------------------------


def prepare(path: str | os.PathLike[str], loop: Any, who: str) -> None:
    """Make the folders of a file and try that one can write there, before training starts.

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
    if target.is_dir() and (target.suffix or not (target / MANIFEST).is_file()):
        raise file_error(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    folder = target.parent
    while "{" in str(folder):  # fields of a template: their folders are made when they are known
        folder = folder.parent
    trial = _temporary(folder / "trial")
    try:
        disk.make(folder)
        disk.open(trial).close()
        disk.delete(trial)
    except OSError as error:
        raise file_error(path, error) from error


class Lock:
    """Keeps a folder for one run; the lock is the kernel's, so it dies with its process.

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

    def acquire(self) -> None:
        from filelock import Timeout

        try:
            disk.make(self.folder)
            self._lock.acquire(timeout=0)
        except Timeout:
            who = self._holder.read_text() if self._holder.exists() else "another process"
            message = f"{self.folder} is in use by {who}."
            raise FileError(message, fix="wait for it to end, or choose another folder") from None
        except OSError as error:
            raise file_error(self.folder, error) from error
        import socket

        atomic_write(self._holder, f"process {os.getpid()} on {socket.gethostname()}".encode())

    def release(self, *, delete: bool = False) -> None:
        """Let go of the folder; does nothing if it is not held.

        Args:
            delete: Whether to delete the lock's own files, and the folder if nothing else is in it.
        """
        if not self._lock.is_locked:
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
    return _writer().submit(job)


@cache
def _writer() -> ThreadPoolExecutor:
    # A forked child has no thread, but would believe in the one of its parent.
    os.register_at_fork(after_in_child=_writer.cache_clear)
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="hookloop-writer")
