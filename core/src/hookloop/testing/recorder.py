"""Recorder: a callback that writes down which hooks are called, and with what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hookloop import hookspecs
from hookloop.callback import Callback
from hookloop.hookspecs import hookimpl


@dataclass(frozen=True)
class Call:
    """One call of one hook.

    Attributes:
        hook: Its name.
        arguments: What it was given, but for ``loop``; logs as a copy of what they held then.
    """

    hook: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        words = [f"{name}={_short(value)}" for name, value in self.arguments.items()]
        return " ".join([self.hook, *words])


class Recorder(Callback):
    """Writes down every call of every hook, after all others have seen it.

    Its hooks are made from the specifications, so that it misses none.

    Args:
        brought: Modules or classes that specify further hooks, as plugins bring them.

    Attributes:
        calls: What was called so far, in order.
    """

    observer = True

    def __init__(self, *brought: Any) -> None:
        self.calls: list[Call] = []
        for specs in brought:
            for hook in hookspecs.names(specs):
                setattr(self, hook, _recording(hook, self))

    @property
    def hooks(self) -> list[str]:
        """Names of the hooks that were called, in order, as often as they were."""
        return [call.hook for call in self.calls]

    def transcript(self) -> list[str]:
        """Give a line a call, as in ``on_epoch_end epoch=0 logs=loss,val_loss``."""
        return [str(call) for call in self.calls]

    def of(self, hook: str) -> list[dict[str, Any]]:
        """Give the arguments of every call of one hook."""
        return [call.arguments for call in self.calls if call.hook == hook]


def _recording(hook: str, own: Recorder | None = None) -> Callable[..., None]:
    """Make the method of one hook, or, for a recorder that exists, its own function."""

    def method(self: Recorder, **arguments: Any) -> None:
        seen = {name: value for name, value in arguments.items() if name != "loop"}
        for name, value in seen.items():
            if isinstance(value, Mapping):
                seen[name] = dict(value)
        self.calls.append(Call(hook, seen))

    def function(**arguments: Any) -> None:
        method(own, **arguments)  # type: ignore[arg-type]

    if own is None:
        return hookimpl(trylast=True)(method)
    return hookimpl(trylast=True, optionalhook=True)(function)


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(value) or "-"
    if isinstance(value, bool | int | float | str):
        return str(value)
    return type(value).__name__


for _name in hookspecs.names():
    setattr(Recorder, _name, _recording(_name))
