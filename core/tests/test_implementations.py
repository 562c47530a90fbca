"""Which methods are hooks, and how each is called: any subset of the arguments, by name."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from hookloop import Callback, hookimpl
from hookloop.errors import HookError
from hookloop.registry import Registry

LOGS = {"loss": 1.0}


def called_with(member: Any, written: str = "on_epoch_end", *, base: type = Callback) -> list[Any]:
    """Give one method a hook's name, fire the hook, and tell what the method appended."""
    callback = type("Sub", (base,), {written: member})()
    callback.calls = []
    registry = Registry([("sub", callback)])
    hook = written.replace("on_batch", "on_train_batch")
    call = registry.dispatch(hook)
    if call is not None:
        call("loop", 3, LOGS)
    return callback.calls  # type: ignore[no-any-return]


class CallableObject:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, epoch: int) -> None:
        self.calls.append(epoch)


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def outer(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return outer


def plain(self: Any, epoch: int, logs: Any = None) -> None:
    self.calls.append((epoch, logs))


SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "nothing": (lambda self: self.calls.append("called"), ["called"]),
    "as in keras": (plain, [(3, LOGS)]),
    "one": (lambda self, logs: self.calls.append(logs), [LOGS]),
    "all": (lambda self, loop, epoch, logs: self.calls.append((loop, epoch)), [("loop", 3)]),
    "another order": (lambda self, logs, epoch: self.calls.append((logs, epoch)), [(LOGS, 3)]),
    "with a default": (lambda self, epoch=9: self.calls.append(epoch), [3]),
    "keras's logs={}": (lambda self, epoch, logs={}: self.calls.append(logs), [LOGS]),
    "keyword-only": (lambda self, *, logs, epoch=9: self.calls.append((logs, epoch)), [(LOGS, 3)]),
    "positional-only": (lambda self, epoch, /, logs: self.calls.append((epoch, logs)), [(3, LOGS)]),
    "**kwargs": (
        lambda self, **kwargs: self.calls.append(kwargs),
        [{"loop": "loop", "epoch": 3, "logs": LOGS}],
    ),
    "some and **kwargs": (
        lambda self, epoch, **kwargs: self.calls.append((epoch, sorted(kwargs))),
        [(3, ["logs", "loop"])],
    ),
    "*args and **kwargs": (
        lambda self, *args, **kwargs: self.calls.append((args, sorted(kwargs))),
        [((), ["epoch", "logs", "loop"])],
    ),
    "decorated with wraps": (decorated(plain), [(3, LOGS)]),
}


@pytest.mark.parametrize(("member", "calls"), SIGNATURES.values(), ids=SIGNATURES)
def test_a_hook_takes_any_subset_of_its_arguments_by_name(member: Any, calls: list[Any]) -> None:
    """Whatever a method's signature is, it gets what it names."""
    assert called_with(member) == calls


@pytest.mark.parametrize("base", [Callback, object], ids=["Callback", "any object"])
def test_any_object_with_hook_methods_is_a_callback(base: type) -> None:
    """Deriving from ``Callback`` is a convenience."""
    assert called_with(plain, base=base) == [(3, LOGS)]


@pytest.mark.parametrize("written", ["on_train_batch_end", "on_batch_end"])
def test_both_spellings_of_a_batch_hook_mean_the_same(written: str) -> None:
    """The older spelling is the newer hook."""
    assert called_with(lambda self, batch: self.calls.append(batch), written) == [3]


def test_static_methods_partials_and_callable_objects_are_hooks_too() -> None:
    """Anything callable under a hook's name is called."""
    heard: list[Any] = []
    called_with(staticmethod(lambda epoch: heard.append(epoch)))  # noqa: PLW0108
    called_with(staticmethod(functools.partial(lambda tag, epoch: heard.append((tag, epoch)), "t")))
    thing = CallableObject()
    called_with(thing)
    assert (heard, thing.calls) == ([3, ("t", 3)], [3])


def test_a_function_hung_on_the_instance_is_a_hook() -> None:
    """That is how ``lambda_callback`` works."""
    callback, heard = Callback(), []
    callback.on_epoch_end = lambda epoch: heard.append(epoch)  # type: ignore[attr-defined]  # noqa: PLW0108
    Registry([("x", callback)]).dispatch("on_epoch_end")("loop", 3, {})  # type: ignore[misc]
    assert heard == [3]


class Base(Callback):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_train_batch_end(self) -> None:
        self.calls.append("base")


class OlderSpelling(Base):
    def on_batch_end(self) -> None:
        self.calls.append("sub")


class Silenced(Base):
    on_train_batch_end = None  # type: ignore[assignment]


class CallsSuper(Base):
    def on_train_batch_end(self) -> None:
        super().on_train_batch_end()
        self.calls.append("sub")


@pytest.mark.parametrize(
    ("cls", "calls"),
    [
        (Base, ["base"]),
        (OlderSpelling, ["sub"]),
        (Silenced, []),
        (CallsSuper, ["base", "sub"]),
    ],
)
def test_the_nearest_class_decides(cls: type[Base], calls: list[str]) -> None:
    """A subclass overrides, under either spelling; None means not implemented."""
    callback = cls()
    call = Registry([("x", callback)]).dispatch("on_train_batch_end")
    if call is not None:
        call("loop", 0, {})
    assert callback.calls == calls


def test_super_calls_reach_the_inert_hooks_under_both_spellings() -> None:
    """A callback written for Keras calls ``super()`` without harm."""

    class Old(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            super().on_epoch_end(epoch, logs)  # type: ignore[misc]
            super().on_batch_end(0, logs)  # type: ignore[misc]

    Registry([("x", Old())]).dispatch("on_epoch_end")("loop", 0, {})  # type: ignore[misc]


def test_helpers_that_begin_with_an_underscore_are_nobody_s_business() -> None:
    """``_on_something`` is private, and so is data that begins with ``on_``."""

    class Helped(Callback):
        on_top = True

        def _on_epoch_ends(self) -> None: ...

    assert Registry([("x", Helped())]).order() == {}


@pytest.mark.parametrize(
    "options",
    [{"hookwrapper": True}, {"specname": "on_epoch_end"}],
    ids=["hookwrapper", "specname"],
)
def test_options_of_pluggy_that_hookloop_does_not_offer_are_refused(options: Any) -> None:
    """Rather than ignored."""

    class Marked(Callback):
        @hookimpl(**options)
        def on_epoch_end(self) -> Any:
            yield

    with pytest.raises(HookError) as caught:
        Registry([("x", Marked())])
    assert str(caught.value).splitlines()[-1] == (
        "fix: use wrapper=True, and give the method the hook's own name"
    )
