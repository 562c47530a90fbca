"""Callback: the base class of callbacks, and what one is given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hookloop import hookspecs
from hookloop.masking import discreet, masked

if TYPE_CHECKING:
    from torch import nn

    from hookloop.loop import Loop

INERT = "__hookloop_inert__"
_OF_THE_RUN = ("loop", "model", "validation_data")


class Callback:
    """Base class of callbacks: subclass it and write the hooks that you want.

    Every hook of `hookloop.hookspecs` exists here as a method that does nothing, so that
    ``super().on_epoch_end(epoch, logs)`` works; such a method costs nothing, as it is never
    called otherwise. A hook takes any subset of its arguments, by name.

    Attributes:
        loop: The running loop, set before the first hook.
        model: The user's module, unwrapped.
        params: ``epochs``, ``steps`` (None where unknown), ``batch_size``, ``samples``,
            ``verbose``, ``metrics``, ``do_validation``.
        validation_data: As passed to the loop, or None.
        hook_api: The hook API that the class was written for; a hookloop that does not offer it
            refuses the class before training.
        name: Key in saved state, in errors and in ``loop.callbacks``; None for the default.
        observer: True for a class that only watches and records, and leaves model, optimizer,
            random numbers and decisions alone. If it fails, it is turned off and training goes on.
        ranks: In a distributed run, ``"zero"`` or ``"all"``; unless stated, observers run on rank
            zero and others on all.
        needs: Features of the loop without which this callback makes no sense.
        save_signals: Numbers of signals that ask for a save, and to go on: ``loop.saves_asked``
            counts them, and a saver looks at it in the checkpoint hooks.
        secret_settings: Arguments of the constructor whose values are never shown or saved, as
            are those that are called ``token``, ``password``, ``api_key`` and the like.
        changes: What its hooks may change: any of ``"model"``, ``"optimizer"``, ``"rng"``,
            ``"logs"``. `hookloop.testing` checks that the rest is left alone.
        per_batch: What its batch hooks may cost: ``"reads"`` from the device, ``"allocates"``
            tensors. `hookloop.testing` checks that they do nothing else of it.
        varies: Names in its logs and state whose values differ between equal runs, as times do,
            and of files that do, with wildcards: ``"*.trace"``.
    """

    loop: Loop = None  # type: ignore[assignment]
    model: nn.Module = None  # type: ignore[assignment]
    params: Mapping[str, Any] = {}
    validation_data: Any = None

    hook_api: int = 1
    name: str | None = None
    observer: bool = False
    ranks: Literal["zero", "all"] | None = None
    needs: ClassVar[tuple[str, ...]] = ()
    save_signals: tuple[int, ...] = ()
    secret_settings: ClassVar[tuple[str, ...]] = ()
    changes: ClassVar[tuple[str, ...]] = ()
    per_batch: ClassVar[tuple[str, ...]] = ()
    varies: ClassVar[tuple[str, ...]] = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Callback:
        if constructor(cls) == inspect.Signature() and (args or kwargs):
            raise TypeError(f"{cls.__name__}() takes no arguments")
        self = super().__new__(cls)
        self.__dict__["_settings"] = _bound(cls, args, kwargs)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leave the run behind when pickled or copied: what remains is the callback itself."""
        return {key: value for key, value in vars(self).items() if key not in _OF_THE_RUN}

    def set_loop(self, loop: Loop) -> None:
        """Receive the running loop, before the first hook."""
        self.loop = loop

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Receive the parameters of the run, before the first hook."""
        self.params = params

    def set_model(self, model: nn.Module) -> None:
        """Receive the user's module, last of the setters; override it to prepare what needs it."""
        self.model = model


def constructor(factory: Callable[..., Any]) -> inspect.Signature:
    """Give the signature by which a callback is made, without ``self``."""
    if not isinstance(factory, type):
        return inspect.signature(factory)
    init = factory.__init__  # type: ignore[misc]
    if init is object.__init__:
        return inspect.Signature()
    whole = inspect.signature(init)
    return whole.replace(parameters=list(whole.parameters.values())[1:])


def settings_of(callback: Any) -> dict[str, Any]:
    """Tell with which arguments a callback was made, defaults included.

    Returns:
        Plain data: numbers, text and containers as given; anything else by its qualified name;
        of secrets, declared as ``secret_settings`` or called so, only that they are there. Empty
        for objects that do not derive from `Callback`.
    """
    bound = discreet(callback, getattr(callback, "_settings", None) or {})
    return {name: as_plain(value) for name, value in bound.items()}


def _bound(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        bound = constructor(cls).bind(*args, **kwargs)
    except (TypeError, ValueError):  # unpickled, or about to fail in __init__ with a better text
        return {}
    bound.apply_defaults()
    return dict(bound.arguments)


def as_plain(value: Any) -> Any:
    """Give numbers, text and containers as they are, and anything else by its qualified name."""
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)  # of a subclass, as NumPy's, too
    if isinstance(value, str):
        return masked(str(value))
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    if isinstance(value, Mapping):
        shown = {str(key): item for key, item in value.items()}
        return {key: as_plain(item) for key, item in discreet(None, shown).items()}
    if hasattr(value, "__fspath__"):
        return str(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"<{named.__module__}.{named.__qualname__}>"


def _inert(name: str) -> Callable[..., None]:
    def hook(self: Callback, *args: Any, **kwargs: Any) -> None:
        pass

    hook.__name__ = name
    hook.__qualname__ = f"Callback.{name}"
    hook.__doc__ = getattr(hookspecs, hookspecs.SPELLINGS.get(name, name)).__doc__
    setattr(hook, INERT, True)
    return hook


for _name in (*hookspecs.names(), *hookspecs.SPELLINGS):
    setattr(Callback, _name, _inert(_name))
