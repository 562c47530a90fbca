"""The errors that hookloop raises, and how their sentences are built.

Every message says what was asked and what was found, and ends with a line that begins with
``fix:`` and says what to do next.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from hookloop.masking import masked


class HookloopError(Exception):
    """Base of all errors of hookloop. What looks like a password or a token is left out of them.

    Args:
        message: What was asked and what was found, as one or two sentences.
        fix: What the reader can do about it; becomes the last line.
    """

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(masked(message if fix is None else f"{message}\nfix: {fix}"))
        self.fix = fix


class SelectionError(HookloopError, ValueError):
    """A callback was chosen in a form that cannot be read."""


class UnknownCallbackError(SelectionError, LookupError):
    """No installed distribution provides a callback of that name."""


class AmbiguousCallbackError(SelectionError):
    """Several distributions provide a callback of that name."""


class PluginImportError(HookloopError, ImportError):
    """A plugin was named, found, and could not be imported."""


class SettingError(HookloopError, TypeError, ValueError):
    """A setting of a callback is unknown, missing, ill-typed or out of range."""


class HookError(HookloopError, TypeError):
    """A hook is implemented or specified in a way that can never work."""


class ArgumentError(HookloopError, ValueError, TypeError):
    """An argument of the trainer, or of another public function, makes no sense."""


class DataError(HookloopError, ValueError):
    """The data yield nothing, or something that is no batch."""


class MonitorError(HookloopError, ValueError):
    """A monitored metric has no direction, or is no number."""


class TemplateError(HookloopError, ValueError):
    """A path template cannot be formatted."""


class StateError(HookloopError, ValueError):
    """A saved state is damaged, is of something else, or holds what cannot be saved."""


class FileError(HookloopError, OSError):
    """A file or folder cannot be written, read or locked."""


class CapabilityError(HookloopError, RuntimeError):
    """A callback needs what the loop that runs it does not offer."""


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user's code that led here, not at one of hookloop's or a plugin's.

    Args:
        text: What is wrong, with a ``fix:`` line.
        category: Kind of the warning.
    """
    import warnings

    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(masked(text), category, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.startswith(("hookloop", "pluggy", "contextlib"))


def without_fix(error: Exception) -> str:
    """Give what an error says, but for what to do about it: somebody else has better advice."""
    return str(error).partition("\nfix: ")[0]


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Suggest the nearest of some names.

    Args:
        word: What was asked for.
        options: What exists.

    Returns:
        ``" Did you mean 'x'?"``, or nothing where no name is near.
    """
    import difflib  # 8 ms, paid only by whoever made a mistake

    near = difflib.get_close_matches(word, list(options), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def listed(names: Iterable[str]) -> str:
    """Join names for a sentence: ``a, b, c``, or ``none``."""
    return ", ".join(names) or "none"
