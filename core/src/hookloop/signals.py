"""Signals: while a run is under way, SIGTERM and SIGINT ask it to end after the batch.

A callback that saves may name others, in ``save_signals``: those ask it to save, and to go on.
"""

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
    run, a signal is meant for both. Loader workers are started with all of them blocked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    to_save = _that_save(loop)
    before = {number: signal.getsignal(number) for number in (*_ASKED_TO_END, *to_save)}
    nested, seen = bool(_running), set[int]()

    def note(number: int, frame: Any) -> None:
        if number == signal.SIGINT and number in seen:
            raise KeyboardInterrupt
        seen.add(number)
        if number in to_save:
            loop.saves_asked = (loop.saves_asked or 0) + 1
        elif loop.signal != signal.SIGTERM:
            loop.signal = number
        outer = before[number]
        if nested and callable(outer):
            outer(number, frame)

    loop.saves_asked = 0 if to_save else None
    _running.append(loop)
    try:
        for number in before:
            signal.signal(number, note)
        yield
    finally:
        _running.pop()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def heeded() -> set[int]:
    """Tell which signals the runs under way heed, and their loaders' workers have to ignore."""
    return {*_ASKED_TO_END}.union(*map(_that_save, _running))


def _that_save(loop: Loop) -> set[int]:
    asked = (getattr(callback, "save_signals", ()) for callback in loop.callbacks.values())
    return set[int]().union(*asked).difference(_ASKED_TO_END)


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
