"""Reading what was saved: folders with a manifest, checked byte by byte, and nothing but files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import IO, Any

from hookloop.errors import ArgumentError, StateError, without_fix

MANIFEST = "manifest.json"
#: Bytes that a manifest may have: one of ours has some 600.
_LONGEST_MANIFEST = 2**20


def aside_of(target: Path) -> Path:
    """Name the place where a folder stands while a new one takes its own."""
    return target.parent / f".{target.name}.previous"


def whole_folder(path: str | os.PathLike[str]) -> Path:
    """Find a folder that was saved, also if the process died while it was replacing one.

    Raises:
        ArgumentError: For what is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(
            f"A {type(path).__name__} is no path of something that was saved.",
            fix="name the file or folder; backup_and_restore finds its own, without resume=",
        )
    folder = Path(path)
    return folder if folder.exists() or not aside_of(folder).exists() else aside_of(folder)


def read_folder(path: str | os.PathLike[str]) -> dict[str, bytes]:
    """Read what `files.replace_folder` wrote, and check every byte of it.

    Raises:
        StateError: If a file is missing, has changed, or is not a plain file of this folder.
    """
    folder = whole_folder(path)
    contents = {}
    for name, entry in read_manifest(folder)["files"].items():
        file = folder / name
        if Path(name).name != name:
            raise StateError(f"{file} is no file of this folder.", fix="use an older one")
        with open_plain(file, follow=False) as opened:
            # The size first, or a file that claims to be larger than it is would be made room for.
            found: dict[str, Any] = {"size": os.fstat(opened.fileno()).st_size}
            data = opened.read() if found["size"] == entry["size"] else b""
        found["sha256"] = hashlib.sha256(data).hexdigest()
        for what, value in found.items():
            if value != entry[what]:
                said = f"its {what} is {value!s:.16}, and its manifest says {entry[what]!s:.16}"
                raise StateError(f"{file} is damaged: {said}.", fix="use an older one")
        contents[name] = data
    return contents


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what the manifest of a folder says: of its files, and of how it was made.

    Raises:
        StateError: If it cannot be read.
    """
    try:
        with open_plain(folder / MANIFEST, follow=False) as file:
            if os.fstat(file.fileno()).st_size > _LONGEST_MANIFEST:
                raise ValueError("it is too long")
            manifest: dict[str, Any] = read_json(file.read())
        if manifest["version"] != 1:
            raise ValueError(f"it is of version {manifest['version']!r}; this hookloop reads 1")
        said = manifest.pop("sha256", None)
        if said != sum_of(manifest) and (said or set(manifest) != {"version", "files"}):  # as 0.1.0
            raise ValueError("it is damaged: its sha256 is not what it says")
        entries = manifest["files"] = {name: dict(of) for name, of in manifest["files"].items()}
        if any({"size", "sha256"} - set(entry) for entry in entries.values()):
            raise KeyError("size")
    except StateError as error:
        raise _no_state(folder, without_fix(error)) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_state(folder, f"it cannot be read ({error})") from None
    return manifest


def sum_of(data: Any) -> str:
    """Give the SHA-256 sum of plain data, however they are written."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _no_state(folder: Path, why: str) -> StateError:
    message = f"{folder} is no saved state: {MANIFEST}: {why.removesuffix('.')}."
    inside = sorted(one.parent for one in folder.glob(f"*/{MANIFEST}")) if folder.name else []
    such = f", such as {inside[-1]}" if inside else ""
    return StateError(message, fix=f"name the folder of an intact state{such}")


def open_plain(path: str | os.PathLike[str], *, follow: bool = True) -> IO[bytes]:
    """Open a file to read it, unless it is something else: a FIFO, say, would wait for ever.

    Args:
        path: The file.
        follow: Whether it may be a symbolic link: where a user named it, and not inside of a
            folder that may be anybody's.

    Raises:
        StateError: If it is no plain file, or cannot be opened.
    """
    extra = getattr(os, "O_NONBLOCK", 0) | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    why = "it is no plain file"
    try:
        file = open(  # noqa: SIM115  # for the caller to close
            path, "rb", opener=lambda name, flags: os.open(name, flags | extra)
        )
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
    except (OSError, ValueError) as error:  # a name with NUL in it is the second
        why = getattr(error, "strerror", None) or str(error)
    raise StateError(f"{os.fspath(path)} cannot be read: {why}.", fix="use an older one")


def read_json(data: bytes | str) -> Any:
    """Read JSON in which no key stands twice in one object: readers differ in which one counts.

    Raises:
        ValueError: If it is none.
        RecursionError: If it is nested deeper than anything of ours.
    """
    return json.loads(data, object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in it")
    return found


def free(path: str | os.PathLike[str]) -> int:
    """Tell how many bytes are free where a file is to be; its folders need not be there yet."""
    place = Path(path)
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free
