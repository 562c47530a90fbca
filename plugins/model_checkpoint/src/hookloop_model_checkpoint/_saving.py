"""A save under way: in the background, or done at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from hookloop import files


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


def begin(job: Callable[[], list[str]], *, background: bool) -> Future[list[str]]:
    """Have the one writer thread do a job, or do it now."""
    if background:
        return files.background(job)
    future: Future[list[str]] = Future()
    try:
        future.set_result(job())
    except Exception as error:
        future.set_exception(error)
    return future
