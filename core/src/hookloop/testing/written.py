"""What a run wrote: a folder of its own, and the files in it, read so that runs can be compared."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from hookloop import files


@contextlib.contextmanager
def own_folder(folder: Path, name: str = "run") -> Iterator[Path]:
    """Give a run an empty folder, which is the current one too, and set it aside afterwards.

    Its name is the same every time, so that runs that write it, or a sum of it, are comparable.

    Args:
        folder: In which it is made.
        name: What it is called.
    """
    place = folder / name
    place.mkdir(parents=True)
    with contextlib.chdir(place):
        yield place
    files.disk.replace(place, folder / f"{name}.{len(list(folder.iterdir()))}")


def written(folder: Path) -> dict[str, Any]:
    """Read all files of a folder, by their paths in it.

    State is read as what it holds, as equal state need not be equal in bytes; text by lines.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _read(path) for path in found}


def without(found: dict[str, Any], patterns: Collection[str]) -> dict[str, Any]:
    """Leave out the files whose path, or name alone, is like one of the patterns."""

    def varies(path: str) -> bool:
        names = (path, path.rpartition("/")[2])
        return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)

    return {path: content for path, content in found.items() if not varies(path)}


def _read(path: Path) -> Any:
    """Read a file as what it is, or as its ending says; one that cannot be read so as bytes."""
    content = path.read_bytes()
    read = _state if content.startswith(_ZIPPED) else _READERS.get(path.suffix, _lines)
    try:
        return read(path)
    except Exception:  # whatever torch and json say of a damaged file, or of another format
        return content


def _state(path: Path) -> Any:
    return _undated(torch.load(path, map_location="cpu", weights_only=True))


def _structure(path: Path) -> Any:
    return _undated(json.loads(path.read_bytes()))


def _undated(found: Any) -> Any:
    """Leave out when a state was saved, in which no two runs are equal."""
    is_state = isinstance(found, dict) and {"version", "made"} <= found.keys()
    return {key: found[key] for key in found if key != "made"} if is_state else found


def _records(path: Path) -> Any:
    return [json.loads(line) for line in _lines(path)]


def _lines(path: Path) -> list[str]:
    return path.read_bytes().decode().split("\n")


#: How what torch saves begins, whatever it is called.
_ZIPPED = b"PK\x03\x04"
_READERS: dict[str, Callable[[Path], Any]] = {".json": _structure, ".jsonl": _records}
