"""The callbacks that a run has without being asked: averages, history, and something to look at."""

from __future__ import annotations

from typing import Any, Literal

from hookloop import discovery
from hookloop.checks import one_of
from hookloop.errors import PluginImportError, warn
from hookloop.history import BaseLogger, History
from hookloop.lines import Lines
from hookloop.selection import instance_name, load

Verbose = int | Literal["auto"]
#: The one plugin that is used without being named, and from this distribution only.
BAR_OWNER, BAR = "hookloop-progbar-logger", "progbar_logger"


def with_defaults(callbacks: list[Any], verbose: Verbose) -> list[Any]:
    """Add what ``fit`` always has; a user's own instance takes the default's place."""
    chosen = with_bar(callbacks, verbose)
    if not any(isinstance(callback, BaseLogger) for callback in chosen):
        chosen = [BaseLogger(), *chosen]
    if not any(isinstance(callback, History) for callback in chosen):
        chosen = [*chosen, History()]
    return chosen


def with_bar(callbacks: list[Any], verbose: Verbose) -> list[Any]:
    """Add the progress bar, or plain lines where it is not installed."""
    one_of("verbose", verbose, ("auto", 0, 1, 2))
    if not verbose or any(instance_name(callback) == BAR for callback in callbacks):
        return callbacks
    return [*callbacks, _bar()]


def _bar() -> Any:
    owners = discovery.installed().get(discovery.normalized(BAR), ())
    if not any(plugin.distribution == BAR_OWNER for plugin in owners):
        return Lines()
    try:
        return load(f"{BAR_OWNER}/{BAR}")
    except PluginImportError as error:  # nobody named it, so nobody's run may end with it
        warn(f"{error}\nUntil then there is one line an epoch.")
        return Lines()
