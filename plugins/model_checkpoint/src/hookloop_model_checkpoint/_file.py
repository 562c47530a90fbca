"""The files: whole states and weights, each with the value for which it was saved, in itself.

The value stands in the same file as what it is about, so that one replacement of that file changes
both: as the comment that ends torch's zip format, or in the metadata of safetensors. Neither is
seen by who loads the file.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import IO, Any

from hookloop import files
from hookloop.checkpoints import pt_record, pt_writer, safetensors_writer
from hookloop.plain import bytes_of

_WEIGHTS = (".safetensors", ".weights.pt", ".weights.h5")
_RECORD = "hookloop.monitored"


def holds_weights_only(path: str) -> bool:
    """Tell by its suffix whether a file holds weights and nothing else."""
    return path.lower().endswith(_WEIGHTS)


def write(
    path: str, state: Any, monitor: str, value: float | None, old: Sequence[str]
) -> list[str]:
    """Write a checkpoint durably, and only then delete older ones.

    Args:
        path: The file.
        state: The state of a run, or weights by name.
        monitor: Name of the quantity for which it is saved.
        value: Its value, or None where nothing is monitored.
        old: Files to delete.

    Returns:
        Those that could not be deleted.
    """
    record = "" if value is None else json.dumps({_RECORD: monitor, "value": value})
    files.atomic_write(path, _content(path, state, record), needed=partial(bytes_of, state))
    left = []
    for one in old:
        try:
            files.delete(one)
        except OSError:
            left.append(one)
    return left


def _content(path: str, state: Any, record: str) -> Callable[[IO[bytes]], None]:
    if not path.lower().endswith(".safetensors"):
        return pt_writer(state, record)
    metadata = {_RECORD: record} if record else {}
    return safetensors_writer(state, metadata)


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
