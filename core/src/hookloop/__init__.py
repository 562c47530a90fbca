"""hookloop: callbacks for PyTorch training, chosen by name, in any training loop.

Importing this package imports nothing else: what it offers is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hookloop.arguments import add_arguments as add_arguments
    from hookloop.arguments import from_arguments as from_arguments
    from hookloop.attached import attach as attach
    from hookloop.callback import Callback as Callback
    from hookloop.callback_list import CallbackList as CallbackList
    from hookloop.checkpoints import load_checkpoint as load_checkpoint
    from hookloop.checkpoints import load_weights as load_weights
    from hookloop.discovery import available as available
    from hookloop.errors import HookloopError as HookloopError
    from hookloop.history import BaseLogger as BaseLogger
    from hookloop.history import History as History
    from hookloop.hookspecs import hookimpl as hookimpl
    from hookloop.hookspecs import hookspec as hookspec
    from hookloop.logs import Logs as Logs
    from hookloop.loop import Loop as Loop
    from hookloop.monitor import Monitor as Monitor
    from hookloop.selection import load as load
    from hookloop.selection import load_callbacks as load_callbacks
    from hookloop.trainer import Trainer as Trainer

__version__ = "0.1.0"

_HOME = {
    "BaseLogger": "history",
    "Callback": "callback",
    "CallbackList": "callback_list",
    "History": "history",
    "HookloopError": "errors",
    "Logs": "logs",
    "Loop": "loop",
    "Monitor": "monitor",
    "Trainer": "trainer",
    "add_arguments": "arguments",
    "attach": "attached",
    "available": "discovery",
    "from_arguments": "arguments",
    "hookimpl": "hookspecs",
    "hookspec": "hookspecs",
    "load": "selection",
    "load_callbacks": "selection",
    "load_checkpoint": "checkpoints",
    "load_weights": "checkpoints",
}
__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        message = f"module 'hookloop' has no attribute {name!r}"
        if name[:1].isupper():
            message += '; a callback is a package of its own, chosen by name: callbacks=["..."]'
        raise AttributeError(message)
    value = getattr(import_module(f"hookloop.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
