"""Where frames are shown: a terminal, a notebook, or a file that gets finished lines only."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from hookloop_progbar_logger._frame import Frame


class Screen(Protocol):
    """Shows one bar after the other, and lines between and above them."""

    live: bool

    def show(self, frame: Frame) -> None:
        """Draw the bar in its present state, in place of what it was."""

    def keep(self, frame: Frame) -> None:
        """Show a bar for the last time; what follows goes below it."""

    def say(self, text: str) -> None:
        """Show a line, above the bar if there is one."""

    def close(self) -> None:
        """Leave the screen as it is, with the cursor below; possible at any time."""


def choose(file: TextIO | None, verbose: Any) -> Screen | None:
    """Choose where to show a run.

    Args:
        file: Where the user wants it, or None for standard output.
        verbose: 0 for nowhere, 2 for a line an epoch; else live where that is possible.
    """
    out = sys.stdout if file is None else file
    if out is None or (verbose is not None and not verbose):
        return None
    if verbose == 2:
        return Plain(out)
    if file is None and Console().is_jupyter:
        return Notebook(import_module("IPython.display").display)
    return Terminal(out) if _is_terminal(out) else Plain(out)


def _is_terminal(file: TextIO) -> bool:
    # Rich's own answer can be forced by the environment, and escape codes end up in log files.
    # Where standard output is somebody's live display already, a second one would fight with it.
    dumb = os.environ.get("TERM", "") in ("dumb", "unknown")
    return file.isatty() and not dumb and not hasattr(file, "rich_proxied_file")


class Plain:
    """Writes finished lines: no carriage returns, no escape codes."""

    live = False

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def show(self, frame: Frame) -> None:
        pass

    def keep(self, frame: Frame) -> None:
        self.say(frame.line())

    def say(self, text: str) -> None:
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        safe = text.encode(encoding, "backslashreplace").decode(encoding)
        print(safe, file=self._file, flush=True)

    def close(self) -> None:
        pass


class Terminal:
    """Draws with rich, without its refresh thread: only who calls `show` draws."""

    live = True

    def __init__(self, file: TextIO) -> None:
        self._console = Console(
            file=file, force_terminal=True, force_interactive=True, force_jupyter=False
        )
        self._file = file
        self._live: Live | None = None

    def show(self, frame: Frame) -> None:
        if self._live is not None:
            self._live.update(self._picture(frame), refresh=True)
            return
        self._live = Live(
            self._picture(frame),
            console=self._console,
            auto_refresh=False,
            # What others print appears above the bar, unless it goes elsewhere.
            redirect_stdout=self._file is sys.stdout,
            redirect_stderr=sys.stderr is not None and sys.stderr.isatty(),
        )
        atexit.register(self.close)  # a hand-written loop may end without a word, cursor hidden
        self._live.start(refresh=True)

    def keep(self, frame: Frame) -> None:
        if self._live is None:
            self._console.print(self._picture(frame), soft_wrap=True)
        else:
            self._live.update(self._picture(frame))
            self.close()

    def say(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            atexit.unregister(self.close)
            live.stop()

    def _picture(self, frame: Frame) -> Text:
        console = self._console
        return frame.picture(console.width, ascii_only=console.options.ascii_only)


class Notebook:
    """Shows a bar as an output of the cell, which is replaced while it changes.

    Args:
        display: ``IPython.display.display``.
    """

    live = True

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._width = Console().width
        self._handle: Any = None
        self._picture = Text()

    def show(self, frame: Frame) -> None:
        self._picture = frame.picture(self._width)
        if self._handle is None:
            self._handle = self._display(self._picture, display_id=True)
        else:
            self._handle.update(self._picture)

    def keep(self, frame: Frame) -> None:
        self.show(frame)
        self._handle = None

    def say(self, text: str) -> None:
        if self._handle is None:
            print(text, flush=True)
        else:  # outputs stay in order: the line takes the bar's place, and the bar a new one
            self._handle.update(Text(text))
            self._handle = self._display(self._picture, display_id=True)

    def close(self) -> None:
        self._handle = None
