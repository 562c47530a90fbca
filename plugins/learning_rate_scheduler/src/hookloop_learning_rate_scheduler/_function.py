"""Schedules that are functions: what they are called with, and what counts as a rate.

Knows nothing of a loop.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from decimal import Decimal
from numbers import Real
from typing import Any

from hookloop.errors import SettingError

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def takes_rate(schedule: Callable[..., Any]) -> bool:
    """Tell from its signature whether a schedule is given the present rate beside the count.

    It is if it can take a second positional argument, with a default or not, as in Keras. Keras
    calls it and looks for a TypeError, which may be of another origin.

    Args:
        schedule: The function; one that has no signature, as some builtins, gets the count alone.

    Raises:
        SettingError: If it cannot be called with one or two positional arguments.
    """
    try:
        parameters = inspect.signature(schedule).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in _POSITIONAL]
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    required = [p for p in positional if p.default is p.empty]
    by_name = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if len(required) > 2 or by_name or not (positional or several):
        message = (
            f"learning_rate_scheduler: the schedule takes {inspect.signature(schedule)}, so it "
            "cannot be called with an epoch, or with an epoch and the present rate."
        )
        raise SettingError(message, fix="write schedule(epoch) or schedule(epoch, lr)")
    return several or len(positional) >= 2


def makes_scheduler(schedule: Callable[..., Any]) -> bool:
    """Tell whether a callable makes a scheduler of torch: its first parameter is ``optimizer``."""
    try:
        return next(iter(inspect.signature(schedule).parameters), None) == "optimizer"
    except (TypeError, ValueError):
        return False


def rate_of(value: Any, when: str) -> float:
    """Read what a schedule returned as a learning rate.

    Args:
        value: Any real number, NumPy scalar, or 0-d tensor or array.
        when: For which epoch or step, for the error.

    Raises:
        SettingError: If it is none of these, or is negative or not finite.
    """
    number = value.detach() if hasattr(value, "detach") else value
    number = number.item() if getattr(number, "ndim", None) == 0 else number
    real = isinstance(number, Real | Decimal) and not isinstance(number, bool)
    try:
        rate = float(number) if real else math.nan
    except OverflowError:
        rate = math.inf
    if not 0 <= rate < math.inf:
        kind = type(value).__name__
        message = f"learning_rate_scheduler: the schedule returned {value!r} ({kind}) for {when}."
        raise SettingError(message, fix="return a finite number of 0 or more")
    return rate
