"""Faults to meet on purpose: a process that is killed, a full disk, a dead server, a failure."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from hookloop import files, hookspecs
from hookloop.callback import Callback
from hookloop.errors import SettingError, did_you_mean


class Planted(Exception):  # noqa: N818  (it is no error of anybody's)
    """What a `FailingCallback` raises, unless it is given something else."""


class FailingCallback(Callback):
    """Raises in one call of one hook; a callback in whose company others have to end in order.

    Args:
        hook: Name of the hook.
        call: Which call of it fails, from 0.
        error: What to raise.
    """

    def __init__(self, hook: str, call: int = 0, error: BaseException | None = None) -> None:
        if hook not in hookspecs.names():
            message = f"FailingCallback: {hook} is no hook.{did_you_mean(hook, hookspecs.names())}"
            raise SettingError(message, fix="name one of those in docs/hooks.md")
        self.hook, self.left = hook, call
        self.error = Planted(f"planted in {hook}") if error is None else error
        setattr(self, hook, self._fail)

    def _fail(self, **_: Any) -> None:
        self.left -= 1
        if self.left == -1:
            raise self.error


class _FullDisk(files.Disk):
    def __init__(self, applies: Callable[[Path], bool]) -> None:
        self.applies = applies

    def open(self, path: Path) -> IO[bytes]:
        if self.applies(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().open(path)


@contextmanager
def full_disk(applies: Callable[[Path], bool] = lambda path: True) -> Iterator[None]:
    """Let there be no room for a new file, for whatever writes through `hookloop.files`.

    Args:
        applies: Tells for a path whether it has no room; by default none has.
    """
    before = files.disk
    files.disk = _FullDisk(applies)
    try:
        yield
    finally:
        files.disk = before


@contextmanager
def dead_server(*, silent: bool = False) -> Iterator[str]:
    """Give the address of a server on this machine that is of no use.

    Args:
        silent: It takes connections and never answers; otherwise it refuses them.

    Yields:
        Its address, as ``http://127.0.0.1:PORT``. The port stays taken until the block ends, so
        that nobody else answers there.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if silent:
            taken.listen()
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def killed(script: str, line: str, *, cwd: Path | None = None) -> list[str]:
    """Run Python code in a process of its own, and kill it (SIGKILL) when it prints a line.

    Args:
        script: Source text. It has to print the line, and to be still running then.
        line: What to wait for.
        cwd: Where it runs.

    Returns:
        The lines that it had printed.

    Raises:
        AssertionError: If it ended without printing the line, with what it said.
    """
    command = [sys.executable, "-u", "-c", script]
    lines: list[str] = []
    with subprocess.Popen(  # noqa: S603
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101  (it is a pipe)
        for printed in process.stdout:
            lines.append(printed.rstrip("\n"))
            if lines[-1] == line:
                process.send_signal(signal.SIGKILL)
                return lines
    said = "\n".join(lines)
    raise AssertionError(f"the process ended without printing {line!r}:\n{said}")
