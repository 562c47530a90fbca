"""A save under way."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Saving:
    """A file that is being written.

    Attributes:
        path: The file.
        logs: Those of the batch or epoch that is saved.
        before: What was decided before, to go back to if it fails.
        written: Older files that could not be deleted, once all is done.
    """

    path: str
    logs: Mapping[str, Any]
    before: Mapping[str, Any]
    written: Future[list[str]]
