"""The files: whole states and weights, each with the value for which it was saved, in itself.

The value stands in the same file as what it is about, so that one replacement of that file changes
both: as the comment that ends torch's zip format, or in the metadata of safetensors. Neither is
seen by who loads the file.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from hookloop import files
from hookloop.checkpoints import pt_record, pt_writer, safetensors_writer
from hookloop.files import Content

_WEIGHTS = (".safetensors", ".weights.pt", ".weights.h5")
_RECORD = "hookloop.monitored"
Writing = Callable[[IO[bytes]], None]


def holds_weights_only(path: str) -> bool:
    """Tell by its suffix whether a file holds weights and nothing else."""
    return path.lower().endswith(_WEIGHTS)


def writing(path: str, state: Any, monitor: str, value: float | None) -> Writing:
    """Give what writes a checkpoint into a binary file.

    Args:
        path: The file, whose suffix decides its format.
        state: The state of a run, or weights by name.
        monitor: Name of the quantity for which it is saved.
        value: Its value, or None where nothing is monitored.
    """
    record = "" if value is None else json.dumps({_RECORD: monitor, "value": value})
    if path.lower().endswith(".safetensors"):
        return safetensors_writer(state, {_RECORD: record} if record else {})
    return pt_writer(state, record)


def in_memory(writing: Writing) -> bytes:
    """Make the bytes of a checkpoint now."""
    made = io.BytesIO()
    writing(made)
    return made.getvalue()


def write(path: str, content: Content, needed: Callable[[], int], old: Sequence[str]) -> list[str]:
    """Write a checkpoint durably, and only then delete older ones.

    Args:
        path: The file.
        content: What it consists of.
        needed: Tells about how many bytes that are.
        old: Files to delete.

    Returns:
        Those that could not be deleted.
    """
    files.atomic_write(path, content, needed=needed)
    left = []
    for one in old:
        try:
            files.delete(one)
        except OSError:
            left.append(one)
    return left


def recorded(path: str, monitor: str) -> float | None:
    """Read for which value of a quantity an existing file was saved.

    Returns:
        The value, or None if the file says nothing of that quantity.
    """
    try:
        record = json.loads(_record(path))
        return float(record["value"]) if record[_RECORD] == monitor else None
    except (OSError, ValueError, KeyError, TypeError, struct.error, zipfile.BadZipFile):
        return None


def older_file(path: str, monitor: str, value: float | None) -> str:
    """Say what a new run does with a file of an earlier one."""
    does = (
        f"holds no {monitor}, so the first save replaces it"
        if value is None
        else f"holds {monitor} {shown(value)}, so only a better one replaces it"
    )
    return f"{path} is there already and {does}; to begin afresh, move it or choose another path."


def shown(value: float | None) -> str:
    """Write a value as Keras does."""
    return "None" if value is None else f"{value:.5f}"


def _record(path: str) -> str | bytes:
    with open(path, "rb") as file:
        start = file.read(8)
        if start[:2] == b"PK":
            return pt_record(path)
        (length,) = struct.unpack("<Q", start)
        header: Mapping[str, Any] = json.loads(file.read(min(length, 2**27)))  # or it is no header
    return str(header["__metadata__"][_RECORD])
