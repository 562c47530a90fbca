"""How far a phase of a run is, and how fast. Knows nothing of a loop or a clock."""

from __future__ import annotations

from collections import deque


class Meter:
    """Counts batches or samples of one epoch, evaluation or prediction.

    Args:
        now: Time of its start, in seconds of any clock.
        total: How many there will be, or None where nobody knows.

    Attributes:
        done: How many are done; whoever counts sets it.
    """

    def __init__(self, now: float, total: int | None) -> None:
        self.done = 0
        self._total = total
        self._skipped = 0
        self._started = self._began = now
        self._paused: float | None = None
        self._marks: deque[tuple[float, int]] = deque([(now, 0)], maxlen=50)

    @property
    def total(self) -> int | None:
        """How many there will be; None also where more came than were announced."""
        return None if self._total is None or self.done > self._total else self._total

    def skip(self, done: int) -> None:
        """Start at a count, as a resumed epoch does: what was done earlier is not this speed."""
        self.done = self._skipped = done
        self._marks[0] = (self._marks[0][0], done)

    def mark(self, now: float) -> None:
        """Remember the count at this time: the rate is that of the last 50 marks."""
        self._marks.append((now, self.done))

    def pause(self, now: float) -> None:
        """Let time pass that does not count for the rate, as validation does not."""
        self._paused = now

    def go_on(self, now: float) -> None:
        """End a pause."""
        if self._paused is not None:
            pause, self._paused = now - self._paused, None
            self._started += pause
            self._marks = deque(((time + pause, done) for time, done in self._marks), maxlen=50)

    def elapsed(self, now: float) -> float:
        """Seconds since the start, pauses included."""
        return now - self._began

    def rate(self, now: float, *, overall: bool = False) -> float | None:
        """Give how many are done per second, lately or since the start; None before the first."""
        time, done = (self._started, self._skipped) if overall else self._marks[0]
        seconds = (now if self._paused is None else self._paused) - time
        return (self.done - done) / seconds if seconds > 0 and self.done > done else None

    def left(self, now: float) -> float | None:
        """Seconds until the total is reached, if nothing changes; None where unknown."""
        rate = self.rate(now)
        return (self.total - self.done) / rate if self.total is not None and rate else None

    def __str__(self) -> str:
        return f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
