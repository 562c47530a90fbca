"""What follows an answer: whether to send again, and when. Knows neither network nor loop."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

#: Longest wait that a server can ask for with Retry-After, in seconds.
LONGEST_ASKED = 300.0


@dataclass(frozen=True)
class Answer:
    """What came of sending an event.

    Attributes:
        problem: What to tell the user; None if the event was delivered.
        again: Whether to send it again.
        after: Seconds that the server asks to wait before that, or None.
    """

    problem: str | None = None
    again: bool = False
    after: float | None = None


def judged(status: int, asked: str | None, now: Callable[[], float] = time.time) -> Answer:
    """Decide what a status means: 2xx is delivered; 408, 429 and 5xx pass; all else stays so.

    Args:
        status: HTTP status code.
        asked: The header Retry-After, if there was one.
        now: Gives seconds since 1970.
    """
    if 200 <= status < 300:
        return Answer()
    if status in (408, 429) or status >= 500:
        return Answer(f"answered {status}; events are kept, and sent later", True, wait(asked, now))
    if 300 <= status < 400:
        return Answer(
            f"answered {status}, a redirection, which is not followed: such events are dropped\n"
            "fix: give the address that it leads to as root= and path="
        )
    return Answer(
        f"answered {status}: such events are dropped, as sending them again would not help\n"
        "fix: correct root=, path= or headers="
    )


def wait(asked: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Read Retry-After: seconds, or a date. None where there is nothing sensible.

    Returns:
        Seconds from now, at most `LONGEST_ASKED`.
    """
    if asked is None:
        return None
    try:
        seconds = float(asked) if asked.strip().isdecimal() else _until(asked, now)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_ASKED)


def _until(date: str, now: Callable[[], float]) -> float:
    return parsedate_to_datetime(date).timestamp() - now()


class Pace:
    """How long to wait after a failure: twice as long each time, at random up to the half less.

    Args:
        first: After the first failure, in seconds.
        longest: At most, in seconds.
        chance: Gives random numbers in [0, 1); by default not from the generators of the run.
    """

    def __init__(
        self, first: float, longest: float, chance: Callable[[], float] | None = None
    ) -> None:
        self._first, self._longest = first, longest
        self._chance = chance or random.Random().random

    def delay(self, failures: int, asked: float | None = None) -> float:
        """Tell how long to wait.

        Args:
            failures: How many there were in a row.
            asked: What the server asks for, which is kept to, but for a moment at least.

        Returns:
            Seconds.
        """
        if asked is not None:
            return max(asked, self._first / 2)
        whole = min(self._first * 2.0 ** min(failures - 1, 60), self._longest)
        return whole * (1 + self._chance()) / 2
