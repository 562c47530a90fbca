"""Checks of what is left open when a run is over, in order or by an exception."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hookloop.testing.faults import FailingCallback, Planted
from hookloop.testing.hosts import in_trainer
from hookloop.testing.kit import TRAINED, Check, check, fail, stopped_at_once
from hookloop.testing.subject import Subject
from hookloop.testing.tiny import TinyLoop

#: Seconds in which a thread or process that was told to end has to be gone.
PATIENCE = 2.0
#: The one thread of core that outlives runs, see `hookloop.files.background`.
_OURS = "hookloop-writer"


def _descriptors() -> dict[str, str]:
    """Give what is open, by number; nothing where the system does not tell."""
    for table in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            found = {}
            for number in os.listdir(table):
                with suppress(OSError):  # that of the listing itself
                    found[number] = os.readlink(f"{table}/{number}")
            return found
    return {}


def _children() -> set[int]:
    known = {child.pid for child in multiprocessing.active_children() if child.pid}
    with suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            known |= {int(pid) for pid in (task / "children").read_text().split()}
    return known


def _world() -> dict[str, Any]:
    """Describe what a run has to leave as it was."""
    return {
        "open files": _descriptors(),
        "processes": {str(pid): "a child" for pid in _children()},
        "threads": {str(one.ident): one.name for one in threading.enumerate()},
        "signal handlers": {one.name: str(signal.getsignal(one)) for one in _signals()},
        "hooks of sys": {
            "excepthook": str(sys.excepthook),
            "stdout": str(id(sys.stdout)),
            "stderr": str(id(sys.stderr)),
        },
        "logging": {"handlers": str(logging.root.handlers), "level": str(logging.root.level)},
        "warning filters": {str(place): str(one) for place, one in enumerate(warnings.filters)},
        "environment variables": dict(os.environ),
        "the current folder": {"name": os.getcwd()},
    }


def _signals() -> list[signal.Signals]:
    return [one for one in signal.valid_signals() if isinstance(one, signal.Signals)]


def left_open(run: Callable[[], None]) -> list[str]:
    """Run something, and tell what it left behind."""
    before = _world()
    run()
    for thread in threading.enumerate():
        new = str(thread.ident) not in before["threads"]
        if new and not thread.name.startswith(_OURS):
            thread.join(PATIENCE)
    after = _world()
    after["threads"] = {
        ident: name for ident, name in after["threads"].items() if not name.startswith(_OURS)
    }
    return [
        f"{what} ({one})"
        for what, then in before.items()
        for key, one in after[what].items()
        if then.get(key) != one
    ]


def _refuse(left: list[str], when: str, hook: str) -> None:
    if left:
        message = f"It leaves behind {when}: {', '.join(left[:3])}."
        raise fail(message, fix=f"close it, or put it back, in {hook}")


@check(*TRAINED)
def closes_everything(subject: Subject, folder: Path) -> None:
    """After a training, evaluation and prediction no file, thread, process or handler is left."""
    callback = subject.make(folder)
    left = left_open(lambda: in_trainer(TinyLoop(), [callback]))
    _refuse(left, "after a run", "on_train_end, on_test_end or on_predict_end")


@check("closes_everything")
def closes_after_an_exception(subject: Subject, folder: Path) -> None:
    """The same when an exception or Ctrl+C ends it: in a batch, in validation, in prediction."""
    errors: dict[str, BaseException] = {
        "on_train_batch_end": KeyboardInterrupt("planted"),
        "on_before_optimizer_step": Planted("planted"),
        "on_test_batch_begin": Planted("planted"),
        "on_epoch_end": Planted("planted"),
        "on_predict_batch_end": Planted("planted"),
    }
    for hook, error in errors.items():
        if not any(_closes(subject, folder, FailingCallback(hook, at, error)) for at in (1, 0)):
            raise stopped_at_once(f"{hook} is called")


def _closes(subject: Subject, folder: Path, failing: FailingCallback) -> bool:
    """Refuse what is left when another callback fails; tell whether the run came to that."""
    hook = failing.hook
    callback = subject.make(folder / f"{hook}{failing.left}")
    left = left_open(lambda: _broken(callback, failing))
    _refuse(left, f"when {hook} of another callback fails", "on_train_end, which still runs")
    return failing.left < 0


def _broken(callback: Any, failing: FailingCallback) -> None:
    tiny = TinyLoop()
    with suppress(Planted, KeyboardInterrupt):
        if failing.hook.startswith("on_predict"):
            tiny.predict([callback, failing])
        else:
            tiny.fit([callback, failing])
        if failing.left >= 0:  # it stopped before
            return
        message = f"The exception that {failing.hook} of another callback raised was swallowed."
        raise fail(message, fix="let what is not yours pass, also in a wrapper")


CHECKS: tuple[Check, ...] = (closes_everything, closes_after_an_exception)
