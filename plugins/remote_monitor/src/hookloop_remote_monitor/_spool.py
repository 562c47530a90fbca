"""Events that wait on disk, and outlive the process.

A spool is a folder. ``events-<number>.jsonl`` hold one event a line and are named after the number
of their first; ``events.cursor.json`` holds the number of the last one that was sent. No line is
ever rewritten, so that one costs the same however many are waiting: what was sent, or has no room,
is deleted a whole file at a time.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections import deque
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Lock

from hookloop.files import atomic_write, delete
from hookloop_remote_monitor._event import Event, from_line

CURSOR = "events.cursor.json"
#: Into how many files the bound is divided.
FILES = 64
#: Events sent after which the cursor is written, unless nothing waits.
OFTEN = 32

_NAME = re.compile(r"events-(\d{12})\.jsonl")


class Spool:
    """Keeps events in a folder, up to a number of bytes; beyond it the oldest files are lost.

    One thread appends, another takes. Who opens it holds the folder's lock.

    Args:
        folder: The folder.
        limit: Bytes of all events together.
        kept: Events to keep in memory while the disk cannot be written to.

    Attributes:
        lost: How many events will never be sent.
    """

    def __init__(self, folder: Path, limit: int, kept: int) -> None:
        self.lost = 0
        self._folder, self._limit, self._kept = folder, limit, kept
        self._mutex, self._saving = Lock(), Lock()
        self._last: int | None = None
        self._closed = False
        self._unsaved = 0
        self._waiting: deque[bytes] = deque()
        self._starts: dict[tuple[int, int], int] = {}
        found = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
        self._sizes = {int(path.stem[7:]): path.stat().st_size for path in found}
        self._sent = max(self._read_cursor(), next(iter(self._sizes), 1) - 1)
        self._next = self._sent + 1
        if found:  # a last line that is torn was never kept
            complete = found[-1].read_bytes().count(b"\n")
            self._next = max(self._next, next(reversed(self._sizes)) + complete)

    def __len__(self) -> int:
        return self._next - 1 - self._sent

    # -- appending ---------------------------------------------------------------

    def append(self, event: Event) -> None:
        """Add an event at the end.

        Raises:
            OSError: If it cannot be written now; it is kept in memory then, and written with the
                next one.
        """
        line = event.line()
        with self._mutex:
            if len(line) > self._limit:
                self.lost += 1
                return
            self._waiting.append(line)
            if len(self._waiting) > self._kept:
                self._waiting.popleft()
                self.lost += 1
            self._write_waiting()
            self._make_room()

    def _write_waiting(self) -> None:
        while self._waiting:
            self._write(self._waiting[0])
            self._waiting.popleft()

    def _write(self, line: bytes) -> None:
        last = self._last
        if last is None or self._sizes[last] + len(line) > self._limit // FILES:
            last = self._next
            self._sizes[last] = 0
        self._last = None  # what follows a torn line goes into another file
        # Unbuffered: a line outlives the process as soon as it is written. A new file may have the
        # name of one that held nothing but a torn line.
        with open(self._path(last), "ab" if self._sizes[last] else "wb", buffering=0) as file:
            self._sizes[last] += len(line)
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._last = last
        self._next += 1

    def _make_room(self) -> None:
        while len(self._sizes) > 1 and sum(self._sizes.values()) > self._limit:
            _, second = islice(self._sizes, 2)
            self.lost += max(second - 1 - self._sent, 0)
            self._sent = max(self._sent, second - 1)
            self._forget_sent()

    # -- taking ---------------------------------------------------------------

    def first(self) -> tuple[int, Event] | None:
        """Give the oldest event that was not sent, with its number."""
        with self._mutex:
            while len(self):
                event = from_line(self._line(self._sent + 1))
                if event is not None:
                    return self._sent + 1, event
                self._sent += 1
                self.lost += 1
            return None

    def done(self, number: int) -> None:
        """Forget an event that `first` gave.

        Raises:
            FileError: If the cursor cannot be written: the event may be sent again by a next run.
        """
        with self._mutex:
            if self._closed:
                return
            if number <= self._sent:
                self.lost -= 1  # it made room for another while it was on its way
            self._sent = max(self._sent, number)
            self._forget_sent()
            self._unsaved += 1
            due = not len(self) or self._unsaved >= OFTEN
        if due:
            self._save()

    def close(self) -> None:
        """Leave the folder to somebody else. What is on its way may be sent again by him."""
        with self._mutex:
            with suppress(OSError):
                self._write_waiting()
            self.lost += len(self._waiting)
            self._waiting.clear()
        try:
            if self._unsaved:
                self._save()
        finally:
            with self._saving, self._mutex:
                self._closed = True
        with self._mutex:
            if not len(self):
                while self._sizes:
                    self._forget(next(iter(self._sizes)))

    def _save(self) -> None:
        with self._saving:  # not the mutex: appending must not wait for the disk
            if not self._closed:
                self._unsaved = 0
                atomic_write(self._folder / CURSOR, json.dumps({"sent": self._sent}).encode())

    def _line(self, number: int) -> bytes:
        of = max(first for first in self._sizes if first <= number)
        start = self._starts.get((of, number))
        with open(self._path(of), "rb") as file:
            if start is None:
                start = sum(map(len, islice(file, number - of)))
            file.seek(start)
            line = file.readline()
        self._starts = {(of, number): start, (of, number + 1): start + len(line)}
        return line

    def _forget_sent(self) -> None:
        while len(self._sizes) > 1 and list(islice(self._sizes, 2))[1] <= self._sent + 1:
            self._forget(next(iter(self._sizes)))

    def _forget(self, first: int) -> None:
        del self._sizes[first]
        delete(self._path(first))

    def _path(self, first: int) -> Path:
        return self._folder / f"events-{first:012d}.jsonl"

    def _read_cursor(self) -> int:
        try:
            return int(json.loads((self._folder / CURSOR).read_bytes())["sent"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0  # rather sent twice, with the same key, than not at all
