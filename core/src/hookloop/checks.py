"""Refusing arguments that make no sense, each with what would."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from numbers import Integral
from typing import TYPE_CHECKING, Any

from hookloop.errors import ArgumentError, DataError, listed

if TYPE_CHECKING:
    from hookloop.data import Source
    from hookloop.loop import Loop


def at_least(name: str, value: Any, least: int, *, optional: bool = False) -> None:
    """Refuse what is no whole number from ``least`` up, or, where it is optional, None."""
    if optional and value is None:
        return
    whole = isinstance(value, Integral) and not isinstance(value, bool)  # NumPy's, too
    if not whole or not least <= value <= sys.maxsize:
        raise ArgumentError(
            f"{name}={value!r} makes no sense.", fix=f"pass a whole number, {least} or more"
        )


def one_of(name: str, value: Any, allowed: Collection[Any], note: str = "") -> None:
    """Refuse what is not among the allowed values."""
    if value not in allowed:
        message = f"{name}={value!r} is not offered{f' ({note})' if note else ''}."
        raise ArgumentError(message, fix=f"one of: {listed(repr(one) for one in allowed)}")


def refuse_no_module(model: Any) -> None:
    """Refuse what is no model, a class of one included."""
    from torch import nn

    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        message = f"model= is {what}, not a torch.nn.Module."
        raise ArgumentError(message, fix="pass an instance of a module")


def refuse_misplaced(method: str, misplaced: tuple[Any, ...]) -> None:
    """Answer ``fit(x, y)``, as Keras has it."""
    if misplaced:
        message = f"{method}() takes the data as one argument, and was given {1 + len(misplaced)}."
        raise ArgumentError(message, fix=f"{method}((x, y), ...)")


def refuse_several_processes() -> None:
    """Refuse to be one of several processes, which this release does not know how to be."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        message = "Trainer runs in one process; WORLD_SIZE says that there are several."
        raise ArgumentError(message, fix="start one process, or use your own distributed loop")


def refuse_used_up(name: str, source: Source | None, steps: int | None) -> None:
    """Refuse an iterator for several epochs, all of which the first one would use up."""
    if source is not None and source.once and steps is None:
        message = f"{name}= is an iterator, which can be read only once, for several epochs."
        fix = "pass what can be read again: a list, a DataLoader, an object with __iter__"
        raise DataError(message, fix=f"{fix}; or steps_per_epoch=" if name == "data" else fix)


def saves_state(loop: Loop) -> bool:
    """Tell whether somebody saves the state of the run, at the hooks that are there for that."""
    order = loop.registry.order()
    savers = (*order.get("on_batch_checkpoint", ()), *order.get("on_epoch_checkpoint", ()))
    return not all(getattr(loop.callbacks[one], "save_weights_only", False) for one in savers)


def validation_epochs(frequency: int | Collection[int]) -> Callable[[int], bool]:
    """Make of ``validation_freq`` a function that tells for an epoch index whether to validate."""
    if isinstance(frequency, Collection):
        for epoch in frequency:
            at_least("validation_freq: the epoch", epoch, 1)
        listed_epochs = frozenset(frequency)
        return lambda epoch: epoch + 1 in listed_epochs
    at_least("validation_freq", frequency, 1)
    return lambda epoch: (epoch + 1) % frequency == 0
