"""Events that wait to be sent: in memory, and with a folder on disk too."""

from __future__ import annotations

import json
from collections import deque
from contextlib import suppress
from pathlib import Path

from hookloop.files import Lock, delete
from hookloop_remote_monitor._event import Event


class Queue:
    """Keeps events in order, up to a number and a size; beyond them the oldest are lost.

    With a folder each event is a file of its own there, from when `append` returns until it is
    done. So nothing is ever rewritten, and what a process leaves behind is what it has not sent.

    Args:
        limit: How many events may wait.
        room: How many bytes they may have together, the newest always.
        folder: Where they wait too. It is locked until `close`.

    Attributes:
        lost: How many events will never be sent.

    Raises:
        FileError: If another run has the folder.
    """

    def __init__(self, limit: int, room: int, folder: Path | None = None) -> None:
        self.lost = self._taken = 0
        self._limit, self._room, self._folder = limit, room, folder
        self._waiting: deque[tuple[Event, Path | None]] = deque()
        self._unwritten = self._number = 0
        self._lock: Lock | None = None
        if folder is not None:
            self._lock = Lock(folder)
            self._lock.acquire()
            self._lock.sweep("*")
            self._load(folder)

    def _load(self, folder: Path) -> None:
        for path in sorted(folder.glob(f"event-{'[0-9]' * 12}.json")):
            self._number = int(path.stem.removeprefix("event-"))
            try:
                self._add(Event(**json.loads(path.read_bytes())), path)
            except (ValueError, TypeError):  # the process or the power ended while it was written
                self.lost += 1
                delete(path)

    def __len__(self) -> int:
        return len(self._waiting)

    def append(self, event: Event) -> None:
        """Add an event at the end.

        Raises:
            OSError: If it cannot be written now. It waits in memory then, and is written with the
                next one if it is still there.
        """
        self._number += 1
        path = self._folder and self._folder / f"event-{self._number:012d}.json"
        self._add(event, path)
        self._unwritten += path is not None
        while len(self) > self._limit or (len(self) > 1 and self._taken > self._room):
            self.lost += 1
            self._forget_first()
        self._write()

    def _add(self, event: Event, path: Path | None) -> None:
        self._taken += len(event.body)  # first: a damaged one has no length
        self._waiting.append((event, path))

    def _write(self) -> None:
        while self._unwritten:
            event, path = self._waiting[-self._unwritten]
            if path is not None:
                path.write_bytes(json.dumps(vars(event)).encode())
            self._unwritten -= 1

    def first(self) -> Event:
        """Give the oldest event."""
        return self._waiting[0][0]

    def done(self, event: Event) -> None:
        """Forget an event that `first` gave."""
        if self._waiting and self.first() is event:
            self._forget_first()
        else:
            self.lost -= 1  # it made room for another while it was on its way

    def _forget_first(self) -> None:
        event, path = self._waiting.popleft()
        self._taken -= len(event.body)
        self._unwritten = min(self._unwritten, len(self._waiting))
        if path is not None:
            with suppress(OSError):  # then the next run sends it again, with the same key
                delete(path)

    def close(self) -> None:
        """Leave the folder to the next run."""
        with suppress(OSError):
            self._write()
        self.lost += self._unwritten
        if self._lock is not None:
            self._lock.release()
