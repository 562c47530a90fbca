"""Signals: while a run is under way, SIGTERM and SIGINT ask it to end after the batch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

_ASKED_TO_END = (signal.SIGTERM, signal.SIGINT)
_running: list[Loop] = []

if TYPE_CHECKING:
    from hookloop.loop import Loop


@contextmanager
def handled(loop: Loop) -> Iterator[None]:
    """Have signals only set a flag on the loop, and put back whoever handled them before.

    Handlers can be set in the main thread only; elsewhere nothing changes. A second SIGINT raises
    ``KeyboardInterrupt`` at once. SIGTERM outranks SIGINT, whichever comes first. Inside of another
    run, a signal is meant for both.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    before = {number: signal.getsignal(number) for number in _ASKED_TO_END}
    nested, seen = bool(_running), set[int]()

    def note(number: int, frame: Any) -> None:
        if number == signal.SIGINT and number in seen:
            raise KeyboardInterrupt
        seen.add(number)
        if loop.signal != signal.SIGTERM:
            loop.signal = number
        outer = before[signal.Signals(number)]
        if nested and callable(outer):
            outer(number, frame)

    for number in before:
        signal.signal(number, note)
    _running.append(loop)
    try:
        yield
    finally:
        _running.pop()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def leave(loop: Loop, on_interrupt: str) -> None:
    """End as the signal asked, after everything has ended in order.

    Args:
        loop: Of the run that has ended.
        on_interrupt: ``"raise"``, or ``"return"`` to go on after SIGINT.

    Raises:
        SystemExit: With 143, after SIGTERM.
        KeyboardInterrupt: After SIGINT.
    """
    if loop.signal == signal.SIGTERM:
        raise SystemExit(128 + signal.SIGTERM)
    if loop.signal == signal.SIGINT and on_interrupt == "raise":
        raise KeyboardInterrupt
