"""Events that wait in memory."""

from __future__ import annotations

from collections import deque
from threading import Lock

from hookloop_remote_monitor._event import Event


class Memory:
    """Keeps events in memory, up to a number; beyond it the oldest are lost.

    Like `Spool` it is written to by one thread and read by another.

    Attributes:
        lost: How many events will never be sent.
    """

    def __init__(self, limit: int) -> None:
        self.lost = 0
        self._limit = limit
        self._next = 1
        self._events: deque[tuple[int, Event]] = deque()
        self._mutex = Lock()

    def __len__(self) -> int:
        return len(self._events)

    def append(self, event: Event) -> None:
        with self._mutex:
            self._events.append((self._next, event))
            self._next += 1
            if len(self._events) > self._limit:
                self._events.popleft()
                self.lost += 1

    def first(self) -> tuple[int, Event] | None:
        """Give the oldest event, with its number."""
        with self._mutex:
            return self._events[0] if self._events else None

    def done(self, number: int) -> None:
        """Forget an event that `first` gave."""
        with self._mutex:
            if self._events and self._events[0][0] == number:
                self._events.popleft()
            else:
                self.lost -= 1  # it made room for another while it was on its way

    def close(self) -> None:
        pass
