"""The system calls that change files: counted, recorded, stopped half way, or failed.

What is patched is Python's own `os` and `open`, so that all that writes is seen, whether it goes
through `hookloop.files` or not. Nothing in the code under test knows of it.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

PATCHED = ("fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "truncate")


@dataclass
class Call:
    """A call that was made.

    Attributes:
        name: Of the function, or ``"open"``, ``"write"``, ``"shorten"``.
        path: What it changed.
        target: Where to, if it renamed.
        content: What is in the file then, if it changed that.
    """

    name: str
    path: Path
    target: Path | None = None
    content: bytes = b""


class Calls:
    """Counts the calls about a folder, and does something at one of them, whose name is `hit`.

    Args:
        folder: Only what is below it counts.
        at: The number of the call, from 0; None for none.
        then: What happens there, in place of the call.
        half: Whether half of what was to be written is written before that; other calls than
            ``write`` do not count then.
        only: Names of the calls that count; all, if there are none.
    """

    def __init__(
        self,
        folder: Path,
        at: int | None = None,
        then: Callable[[], Any] | None = None,
        *,
        half: bool = False,
        only: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.at, self.then, self.half = os.fspath(folder), at, then, half
        self.only = ("write",) if half else only
        self.done: list[Any] = []
        self.count = 0
        self.hit = ""
        self._patches: list[Any] = []

    def __enter__(self) -> Calls:
        real = builtins.open
        for module in (builtins, io):
            self._patch(module, "open", lambda *args, **more: self._open(real, *args, **more))
        for name in PATCHED:
            self._patch(os, name, self._wrapped(name, getattr(os, name)))
        return self

    def _patch(self, owner: Any, name: str, by: Any) -> None:
        patch = mock.patch.object(owner, name, by)
        patch.start()
        self._patches.append(patch)

    def __exit__(self, *_: object) -> None:
        while self._patches:
            self._patches.pop().stop()

    def happen(self, call: Call, act: Callable[[], Any], half: Callable[[], Any] = int) -> Any:
        """Do a call, or what is to happen in its place."""
        if self.only and call.name not in self.only:
            self.done.append(call)
            return act()
        self.count += 1
        if self.at == self.count - 1 and self.then is not None:
            self.hit = call.name
            if self.half:
                half()
            self.then()
        result = act()
        self.done.append(call)
        return result

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(what: Any, *more: Any, **named: Any) -> Any:
            at = f"/proc/self/fd/{what}" if isinstance(what, int) else what
            path = Path(os.readlink(at) if isinstance(what, int) else os.path.abspath(what))
            if not self.concerns(path) or "dir_fd" in named:
                return real(what, *more, **named)
            target = Path(os.path.abspath(more[0])) if name in ("replace", "rename") else None
            return self.happen(Call(name, path, target), lambda: real(what, *more, **named))

        return call

    def concerns(self, path: Any) -> bool:
        return str(path).startswith(self.folder) and not str(path).endswith("/.lock")

    def _open(
        self, real: Any, file: Any, mode: str = "r", buffering: int = -1, *args: Any, **more: Any
    ) -> Any:
        writes = "b" in mode and set(mode) & set("wxa+")
        if isinstance(file, int) or not writes or not self.concerns(os.path.abspath(file)):
            return real(file, mode, buffering, *args, **more)
        path = Path(os.path.abspath(file))
        if path.exists():  # opening it changes nothing, as nobody here opens with "w"
            raw = File(self, path, mode)
        else:
            raw = self.happen(Call("open", path), lambda: File(self, path, mode))
        if buffering == 0:
            return raw
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)


class File(io.FileIO):
    """A file whose writes are calls."""

    def __init__(self, calls: Calls, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self.calls, self.path = calls, path

    def write(self, data: Any) -> int:
        call = Call("write", self.path)
        piece = memoryview(data)[: len(data) // 2]
        count = self.calls.happen(
            call, lambda: super(File, self).write(data), lambda: super(File, self).write(piece)
        )
        call.content = self._content()
        return int(count)

    def truncate(self, size: int | None = None) -> int:
        if size == os.fstat(self.fileno()).st_size:  # which changes nothing
            return size
        call = Call("shorten", self.path)
        result = self.calls.happen(call, lambda: super(File, self).truncate(size))
        call.content = self._content()
        return int(result)

    def _content(self) -> bytes:
        with io.FileIO(self.path) as file:
            return file.readall()


def die() -> None:
    """End this process at once, as the kernel does."""
    os.kill(os.getpid(), signal.SIGKILL)
