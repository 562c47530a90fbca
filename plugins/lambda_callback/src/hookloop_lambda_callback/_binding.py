"""How a plain function is called as a hook: which of the hook's arguments it gets, and how."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from hookloop.errors import SettingError, listed


def bound(function: Any, hook: str, offered: tuple[str, ...]) -> Callable[..., Any]:
    """Wrap a function so that it can be called with arguments of the hook, by position.

    A function whose required parameters are all named like arguments of the hook gets those by
    name, ``loop`` among them. Any other gets them by position, in the hook's order and without
    ``loop``, as Keras calls it; if it takes fewer, it gets the first ones.

    Args:
        function: What the user wrote.
        hook: Name of the hook, for errors.
        offered: The hook's arguments, in order.

    Returns:
        A function whose signature names exactly the arguments that it wants.

    Raises:
        SettingError: If it wants more than the hook has, or could never be called.
    """
    if not callable(function):
        message = f"lambda_callback: {hook}={function!r} is a {type(function).__name__}."
        raise SettingError(
            message, fix=f"pass a function, as in {hook}=lambda {_usual(offered)}: ..."
        )
    _refuse_never_run(function, hook)
    by_position, by_name = _wanted(function, hook, offered)
    count, names = len(by_position), by_name

    @functools.wraps(function, updated=("__dict__",) if hasattr(function, "__dict__") else ())
    def call(*values: Any) -> Any:
        return function(*values[:count], **dict(zip(names, values[count:], strict=True)))

    kinds = Parameter.POSITIONAL_OR_KEYWORD
    wanted = [Parameter(name, kinds) for name in (*by_position, *by_name)]
    call.__signature__ = inspect.Signature(wanted)  # type: ignore[attr-defined]
    return call


def _wanted(
    function: Callable[..., Any], hook: str, offered: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    """Tell which arguments a function gets by position, and which by name."""
    in_order = [name for name in offered if name != "loop"]
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some builtins have no signature
        return in_order, []
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in offered]
    kinds = {p.kind for p in parameters}
    if _is_by_name(places, offered):
        by_position, by_name = [], [p.name for p in places if p.name in offered] + keywords
    else:
        by_position, by_name = in_order[: len(places)], keywords
    if Parameter.VAR_POSITIONAL in kinds and not by_name:
        by_position = in_order
    if Parameter.VAR_KEYWORD in kinds:
        by_name += [name for name in offered if name not in (*by_position, *by_name)]
    required = [p for p in places if p.default is p.empty]
    lacking = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    lacking = [name for name in lacking if name not in offered]
    if lacking or (by_position and len(required) > len(by_position)):
        message = f"lambda_callback: the function of {hook} wants more arguments than there are."
        raise SettingError(message, fix=f"take at most {listed(in_order)}; or loop, by name")
    return by_position, by_name


def _is_by_name(places: list[Parameter], offered: tuple[str, ...]) -> bool:
    decisive = [p for p in places if p.default is p.empty] or places
    return all(p.name in offered and p.kind is not p.POSITIONAL_ONLY for p in decisive)


def _refuse_never_run(function: Callable[..., Any], hook: str) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        message = f"lambda_callback: the function of {hook} is a coroutine, which nobody awaits."
        raise SettingError(message, fix="use def, not async def")
    if inspect.isgeneratorfunction(function):
        message = f"lambda_callback: the function of {hook} is a generator, so nothing of it runs."
        raise SettingError(message, fix="remove `yield`")


def _usual(offered: tuple[str, ...]) -> str:
    return ", ".join(name for name in offered if name != "loop")
