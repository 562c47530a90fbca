"""The trainer itself, which its events leave out: finding it, and following its methods.

Events are given everything but the trainer, a batch, its loss and the beginning of an evaluation
(huggingface/transformers#12108, #38181), and there is none for an exception. All of these are in
the arguments and results of public methods that are made to be overridden. So these methods are
surrounded, on the one trainer that a `HookloopCallback` was passed to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any

from transformers import Trainer

from hookloop.errors import CapabilityError

#: What is surrounded: each by the method of that name of who follows the trainer.
METHODS = (
    "train",
    "get_batch_samples",
    "compute_loss",
    "evaluate",
    "predict",
    "prediction_step",
)


def around(callback: Any) -> Any:
    """Find the trainer whose event is being handled.

    Args:
        callback: Whose event it is.

    Raises:
        CapabilityError: If it is an event of no ``transformers.Trainer``.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        one = frame.f_locals.get("self")
        if isinstance(one, Trainer) and callback in _callbacks(one):
            return one
        frame = frame.f_back
    raise CapabilityError(
        "HookloopCallback was called by something that is no transformers.Trainer.",
        fix="pass it in callbacks= of a transformers.Trainer; other loops: hookloop.attach",
    )


def _callbacks(trainer: Any) -> list[Any]:
    """Give the callbacks of a trainer; one that is still being made may have none."""
    return list(getattr(getattr(trainer, "callback_handler", None), "callbacks", ()))


def is_training(trainer: Any) -> bool:
    """Tell whether ``train`` is being executed; the trainer's ``is_in_train`` outlives errors."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "train" and frame.f_locals.get("self") is trainer:
            return True
        frame = frame.f_back
    return False


def surround(trainer: Any, follower: Any) -> None:
    """Have the methods of a trainer called through those of the same names of a follower.

    Does nothing for those that are: it is called again, as users replace methods of a trainer.

    Args:
        trainer: The trainer; a method that it was given before, also as an attribute, is kept.
        follower: Its methods get what they surround as their first argument, while it is
            ``active``.
    """
    for name in METHODS:
        if not _is_surrounded(getattr(trainer, name), follower):
            setattr(trainer, name, _surrounded(getattr(trainer, name), follower, name))


def _is_surrounded(method: Any, follower: Any) -> bool:
    while method is not None:
        if getattr(method, "follower", None) is follower:
            return True
        method = getattr(method, "__wrapped__", None)
    return False


def _surrounded(inner: Callable[..., Any], follower: Any, name: str) -> Callable[..., Any]:
    outer = getattr(follower, name)

    @wraps(inner)
    def method(*args: Any, **kwargs: Any) -> Any:
        return outer(inner, *args, **kwargs) if follower.active else inner(*args, **kwargs)

    vars(method)["follower"] = follower
    return method
