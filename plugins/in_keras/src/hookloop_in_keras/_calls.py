"""Calls of ``fit``, ``evaluate`` and ``predict`` under way: with what, and how they end.

Keras tells its callbacks nothing of an exception, and nothing of the data. So the three methods of
``keras.Model`` are wrapped when this package is imported. They pass everything on; what they note
concerns nobody but a `HookloopCallback` among the callbacks of the call.
"""

from __future__ import annotations

import functools
import inspect
import math
import threading
from collections.abc import Callable
from typing import Any, Protocol

from hookloop_in_keras._keras import keras

_METHODS = ("fit", "evaluate", "predict")
_of_thread = threading.local()


class Runner(Protocol):
    """What has begun a run within a call."""

    def fail(self, error: BaseException) -> None: ...

    def leave(self) -> None: ...


class Call:
    """One call of ``fit``, ``evaluate`` or ``predict``.

    Attributes:
        method: Which of them.
        model: Of which model.
        runners: Those that have begun a run within it: they hear of its end.
    """

    def __init__(self, method: str, model: Any, arguments: dict[str, Any]) -> None:
        self.method, self.model = method, model
        self.runners: list[Runner] = []
        self._given = arguments

    def get(self, name: str, default: Any = None) -> Any:
        """Give an argument of the call."""
        return self._given.get(name, default)

    def params(self) -> dict[str, Any]:
        """Tell what is known of the run from its arguments, under the names that a `Loop` has."""
        x, y, split = self.get("x"), self.get("y"), self.get("validation_split") or 0.0
        first: Any = next((leaf for leaf in keras.tree.flatten(x) if leaf is not None), None)
        arrays = hasattr(first, "shape") and (y is not None or not isinstance(x, list | dict))
        samples = int(first.shape[0]) if arrays and first.shape else None
        validates = bool(split) or self.get("validation_data") is not None
        if samples is not None and split and self.get("validation_data") is None:
            samples = math.floor(samples * (1.0 - split))  # as Keras splits
        return {
            "batch_size": self.get("batch_size") or (32 if samples is not None else None),
            "samples": samples,
            "do_validation": validates,
        }


def entered(method: str, model: Any) -> Call | None:
    """Give the innermost call of a method that is under way in this thread, or None."""
    calls: list[Call] = getattr(_of_thread, "calls", [])
    found = (one for one in reversed(calls) if one.method == method and one.model is model)
    return next(found, None)


def watch() -> None:
    """Wrap the methods of ``keras.Model``, once in a process."""
    for method in _METHODS:
        original = getattr(keras.Model, method)
        if not hasattr(original, "__hookloop__"):
            setattr(keras.Model, method, _watched(method, original))


def _watched(method: str, original: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            given = dict(signature.bind(self, *args, **kwargs).arguments)
        except TypeError:  # for Keras itself to refuse
            given = {}
        calls = _of_thread.__dict__.setdefault("calls", [])
        one = Call(method, self, given)
        calls.append(one)
        try:
            return original(self, *args, **kwargs)
        except BaseException as error:
            for runner in one.runners:
                runner.fail(error)
            raise
        finally:
            calls.remove(one)
            for runner in one.runners:
                runner.leave()

    call.__dict__["__hookloop__"] = True
    return call
