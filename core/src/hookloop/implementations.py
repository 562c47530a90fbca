"""Reading a callback: which of its methods implement which hook, and how each is to be called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from hookloop import hookspecs
from hookloop.callback import INERT
from hookloop.errors import HookError, did_you_mean, listed

_OPTIONS = f"{hookspecs.PROJECT}_impl"
_NOTHING = object()
#: What people ask a hook for, and the loop has.
_ON_LOOP = frozenset("epoch batch step loss inputs targets outputs model optimizer lr".split())


@dataclass(frozen=True)
class Implementation:
    """One method of one callback that implements one hook.

    Attributes:
        index: The callback's place in the list.
        owner: The callback's name.
        hook: The hook, by its present name.
        function: What to call, bound.
        arguments: The arguments of the call, as source text.
    """

    index: int
    owner: str
    hook: str
    function: Callable[..., Any]
    arguments: str
    tryfirst: bool = False
    trylast: bool = False
    wrapper: bool = False

    @property
    def key(self) -> str:
        """Name of the function in what is compiled."""
        return f"_{self.index}_{self.hook}"


def implementations(
    callback: Any, owner: str, index: int, hooks: Mapping[str, tuple[str, ...]]
) -> Iterator[Implementation]:
    """Find the hooks that a callback implements.

    Args:
        callback: An instance, or a module with hook functions.
        owner: Its name, for errors.
        index: Its place in the list.
        hooks: Every hook of the run, with its arguments.

    Raises:
        HookError: If a method is a misspelt hook, or could never be called as one.
    """
    levels = _levels(callback)
    _refuse_misspelt(levels, owner, hooks)
    for hook, arguments in hooks.items():
        written = _nearest(levels, hook, owner)
        if written is None:
            continue
        function = getattr(callback, written)
        who = f"{owner}: {type(callback).__qualname__}.{written}"
        options = getattr(function, _OPTIONS, None) or {}
        _refuse_without_self(levels[1:], written, who, arguments)
        _refuse_uncallable(function, who, options)
        yield Implementation(
            index,
            owner,
            hook,
            function,
            _arguments(function, who, hook, arguments),
            tryfirst=bool(options.get("tryfirst")),
            trylast=bool(options.get("trylast")),
            wrapper=bool(options.get("wrapper")),
        )


def likely_hook(callback: Any) -> str | None:
    """Find a method of a callback without hooks that was meant as one, as ``epoch_end``.

    Returns:
        A sentence, or None.
    """
    hooks = {name.replace("_", ""): name for name in (*hookspecs.names(), *hookspecs.SPELLINGS)}
    for name, member in vars(type(callback)).items():
        plain = name.replace("_", "").lower()
        hook = hooks.get(plain) or hooks.get(f"on{plain}")
        if hook not in (None, name) and inspect.isfunction(member):
            return f"{name} is no hook. Did you mean {hook!r}?"
    return None


def has_hooks(callback: Any) -> bool:
    """Tell whether an object has a method that is a hook, or looks like one: ``on_something``."""
    known = {*hookspecs.names(), *hookspecs.SPELLINGS}
    return any(
        name in known or (name.startswith("on_") and inspect.isroutine(member))
        for level in _levels(callback)
        for name, member in level.items()
    )


def _levels(callback: Any) -> list[Mapping[str, Any]]:
    """Where attributes come from, nearest first."""
    own = getattr(callback, "__dict__", {})
    return [own] if isinstance(callback, ModuleType) else [own, *map(vars, type(callback).__mro__)]


def _nearest(levels: list[Mapping[str, Any]], hook: str, owner: str) -> str | None:
    """Find under which spelling a hook is implemented; None if it is not."""
    spellings = [hook, *(old for old, new in hookspecs.SPELLINGS.items() if new == hook)]
    for level in levels:
        found = [s for s in spellings if not hasattr(level.get(s, _NOTHING), INERT) and s in level]
        if len(found) > 1:
            message = f"{owner}: {found[0]} and {found[1]} are two spellings of one hook."
            raise HookError(message, fix=f"keep {found[0]} and delete the other")
        if found:
            return None if level[found[0]] is None else found[0]
    return None


def _refuse_misspelt(levels: list[Mapping[str, Any]], owner: str, hooks: Mapping[str, Any]) -> None:
    known = {*hooks, *hookspecs.SPELLINGS}
    for level in levels if len(levels) == 1 else levels[1:]:
        for name, member in level.items():
            options = getattr(member, _OPTIONS, None)
            looks = name.startswith("on_") and inspect.isroutine(member)
            if name in known or not (looks or options) or (options or {}).get("optionalhook"):
                continue
            message = f"{owner}: {name} is no hook.{did_you_mean(name, known)}"
            fix = (
                "spell it as one of the hooks, begin it with an underscore if it is a helper, or "
                "mark it with @hookloop.hookimpl(optionalhook=True) if another plugin brings it"
            )
            raise HookError(message, fix=fix)


def _refuse_without_self(
    classes: list[Mapping[str, Any]], written: str, who: str, arguments: tuple[str, ...]
) -> None:
    """Refuse a method without ``self``, which would get the callback as its first argument."""
    method = next((vars_[written] for vars_ in classes if written in vars_), None)
    code = getattr(inspect.unwrap(method), "__code__", None) if inspect.isfunction(method) else None
    if code is None:
        return
    takes_some = code.co_argcount or code.co_flags & inspect.CO_VARARGS
    if not takes_some or (code.co_argcount and code.co_varnames[0] in arguments):
        raise HookError(f"{who} does not take self.", fix=f"def {written}(self, ...)")


def _refuse_uncallable(function: Any, who: str, options: Mapping[str, Any]) -> None:
    if not callable(function):
        message = f"{who} is a {type(function).__name__}, not a method."
        raise HookError(message, fix="make it a method, or None if the hook is not implemented")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise HookError(f"{who} is a coroutine, which nobody awaits.", fix="use def, not async def")
    if options.get("hookwrapper") or options.get("specname"):
        message = f"{who} uses an option of hookimpl that hookloop does not offer."
        raise HookError(message, fix="use wrapper=True, and give the method the hook's own name")
    generates = inspect.isgeneratorfunction(function)
    if options.get("wrapper") and not generates:
        raise HookError(f"{who} is a wrapper that never yields.", fix="`return (yield)` in it")
    if generates and not options.get("wrapper"):
        message = f"{who} is a generator, so calling it would run nothing of it."
        raise HookError(message, fix="remove `yield`, or mark it @hookloop.hookimpl(wrapper=True)")


def _arguments(function: Callable[..., Any], who: str, hook: str, offered: tuple[str, ...]) -> str:
    """Write the arguments of the call: each by position where that is possible, else by name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise HookError(f"{who} has no signature: {error}", fix="wrap it in a function") from None
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    for parameter in named:
        if parameter.name not in offered:
            guess = did_you_mean(parameter.name, offered)
            message = f"{who} asks for {parameter.name!r}, which {hook} does not have.{guess}"
            also = f", or read self.loop.{parameter.name}" if parameter.name in _ON_LOOP else ""
            raise HookError(message, fix=f"take any of: {listed(offered)}{also}")
    kinds = {parameter.kind for parameter in parameters}
    if inspect.Parameter.VAR_POSITIONAL in kinds and inspect.Parameter.VAR_KEYWORD not in kinds:
        message = f"{who} takes *args, but hooks are called by name."
        raise HookError(message, fix=f"take any of: {listed(offered)}, or **kwargs")
    written = [p.name if p.kind != p.KEYWORD_ONLY else f"{p.name}={p.name}" for p in named]
    if inspect.Parameter.VAR_KEYWORD in kinds:
        taken = {parameter.name for parameter in named}
        written += [f"{name}={name}" for name in offered if name not in taken]
    return ", ".join(written)
