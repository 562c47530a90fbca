"""Where the events of a spool go, as far as that may be kept on disk: without any secret."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from hookloop.errors import FileError
from hookloop.files import atomic_write

ROOT, PATH = "http://localhost:9000", "/publish/epoch/end/"
TARGET = "events.target.json"


@dataclass(frozen=True)
class Target:
    """What a spool knows of its server.

    Attributes:
        root: Scheme, host and port.
        asks: Options that ``hookloop remote-sync`` needs, as what they stand for may be secret.
    """

    root: str
    asks: list[str]


def target(origin: str, root: str, path: str, headers: Iterable[str]) -> Target:
    """Leave out what may be secret: users, paths, queries and the values of headers.

    Args:
        origin: Scheme, host and port.
        root: The whole setting.
        path: The whole setting.
        headers: Their names.
    """
    asks = (["--root"] if root != origin else []) + (["--path"] if path != PATH else [])
    return Target(origin, asks + [f"--header {name}" for name in headers])


def save(folder: Path, found: Target) -> None:
    """Keep it beside the events."""
    content = json.dumps(asdict(found)).encode()
    file = folder / TARGET
    if not file.exists() or file.read_bytes() != content:
        atomic_write(file, content)


def load(folder: Path) -> Target:
    """Read what `save` kept.

    Raises:
        FileError: If the folder is no spool.
    """
    try:
        kept = json.loads((folder / TARGET).read_bytes())
        return Target(str(kept["root"]), [str(one) for one in kept["asks"]])
    except (OSError, ValueError, KeyError, TypeError):
        message = f"{folder} is no spool of remote_monitor: its {TARGET} cannot be read."
        raise FileError(message, fix="name the folder that a run had as spool=") from None
