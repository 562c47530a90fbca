"""The folder of saved states: which there are, which is the newest intact one. Knows no loop."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hookloop import files
from hookloop.checkpoints import STATE_FILES, delete_state, load_state, save_state
from hookloop.errors import StateError, without_fix

_NAME = re.compile(r"state-([0-9]{6,})")


@dataclass
class Newest:
    """What was found in a folder.

    Attributes:
        path: The newest intact state; None if there is none.
        state: What it holds.
        damaged: Newer ones that are not intact, each with the reason.
    """

    path: Path | None = None
    state: dict[str, Any] | None = None
    damaged: dict[Path, str] = field(default_factory=dict)


def found(folder: Path) -> list[Path]:
    """Find the saved states, newest first: each has a higher number than all that were before.

    Times of files are not looked at: clocks are set back, and copying makes old files new.
    """
    return sorted(filter(_is_state, _numbered(folder)), key=_number, reverse=True)


def _numbered(folder: Path) -> list[Path]:
    paths = folder.iterdir() if folder.is_dir() else ()
    return [path for path in paths if _NAME.fullmatch(path.name)]


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _is_state(path: Path) -> bool:
    """Tell a state, even a damaged one, from a folder in which only things of the user are left."""
    return not path.is_symlink() and any((path / name).exists() for name in STATE_FILES)


def newest(folder: Path) -> Newest:
    """Read the newest state of which every byte is as it was written."""
    result = Newest()
    for path in found(folder):
        try:
            result.path, result.state = path, load_state(path)
        except (StateError, OSError) as error:
            result.path = None
            result.damaged[path] = without_fix(error)
        else:
            break
    return result


def write(folder: Path, state: Mapping[str, Any], keep: int, damaged: Collection[Path]) -> Path:
    """Delete what is beyond ``keep`` already, write a state durably, then delete what it replaces.

    Args:
        folder: Where to.
        state: What ``loop.state_dict()`` gave.
        keep: How many are kept, with this one.
        damaged: Those that are not worth keeping.

    Returns:
        Where it is.
    """
    number = max(map(_number, _numbered(folder)), default=0) + 1
    path = folder / f"state-{number:06d}"
    left = _beyond(folder, keep, damaged)
    if left:  # by a process that died before it deleted them: there is room for one more, not two
        files.disk.sync_folder(folder)
        _delete(left)
    save_state(path, state)
    _delete([*_beyond(folder, keep, damaged), *damaged])
    return path


def _beyond(folder: Path, keep: int, damaged: Collection[Path]) -> list[Path]:
    return [one for one in found(folder) if one not in damaged][keep:]


def _delete(states: Iterable[Path]) -> None:
    for old in states:
        with suppress(OSError):  # the next save tries again
            delete_state(old)


def delete(folder: Path) -> None:
    """Delete all states, the oldest first, and nothing else."""
    for path in reversed(found(folder)):
        delete_state(path)
