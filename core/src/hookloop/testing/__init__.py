"""The conformance kit: what authors of callbacks test theirs with.

Nothing here is loaded unless it is imported. `CallbackSuite` needs pytest; nothing else does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hookloop.testing.kit import Kit as Kit
    from hookloop.testing.recorder import Recorder as Recorder
    from hookloop.testing.subject import Subject as Subject
    from hookloop.testing.suite import CallbackSuite as CallbackSuite
    from hookloop.testing.tiny import TinyLoop as TinyLoop

_HOME = {
    "CallbackSuite": "suite",
    "Kit": "kit",
    "Recorder": "recorder",
    "Subject": "subject",
    "TinyLoop": "tiny",
}
__all__ = sorted([*_HOME, "faults"])


def __getattr__(name: str) -> Any:
    if name == "faults":
        return import_module("hookloop.testing.faults")
    if name not in _HOME:
        raise AttributeError(f"module 'hookloop.testing' has no attribute {name!r}")
    return getattr(import_module(f"hookloop.testing.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
