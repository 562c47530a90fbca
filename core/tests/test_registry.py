"""The registry: who runs when, and what follows when somebody fails."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from hookloop import Callback, hookimpl, hookspec, hookspecs
from hookloop.errors import HookError
from hookloop.registry import Registry

#: One value for every argument that a hook of the core has.
VALUES: dict[str, Any] = {
    "loop": SimpleNamespace(epoch=2, batch=5),
    "logs": {},
    "epoch": 2,
    "batch": 5,
    "optimizer": "optimizer",
    "exception": ValueError("x"),
    "text": "a line",
}
KINDS = ("plain", "tryfirst", "trylast", "wrapper", "wrapper tryfirst", "wrapper trylast")


def recorder(hook: str, name: str, kind: str, calls: list[str]) -> Any:
    """Make a callback that writes down when it runs, as a marked implementation of one kind."""
    if "wrapper" in kind:

        def implementation(self: Any) -> Any:
            calls.append(f"{name} in")
            result = yield
            calls.append(f"{name} out")
            return result

    else:

        def implementation(self: Any) -> Any:  # type: ignore[no-redef]
            calls.append(name)

    options = {option: option in kind for option in ("tryfirst", "trylast", "wrapper")}
    return type(name, (Callback,), {hook: hookimpl(**options)(implementation)})()


def transcript(hook: str, kinds: list[str], *, through_pluggy: bool) -> list[str]:
    """Run one hook with callbacks a, b, c ... of some kinds, by one of the two dispatch paths."""
    calls: list[str] = []
    names = [chr(ord("a") + place) for place in range(len(kinds))]
    callbacks = [
        (name, recorder(hook, name, kind, calls)) for name, kind in zip(names, kinds, strict=True)
    ]
    registry = Registry(callbacks)
    if through_pluggy:
        registry.trace(lambda hook, arguments: None)
    call = registry.dispatch(hook)
    assert call is not None
    call(*(VALUES[argument] for argument in registry.hooks[hook]))
    return calls


def expected(kinds: list[str]) -> list[str]:
    """Work the order out from the rules in words, without a thought of pluggy."""
    names = {chr(ord("a") + place): kind for place, kind in enumerate(kinds)}

    def group(wrapper: bool) -> list[str]:
        chosen = {name: kind for name, kind in names.items() if ("wrapper" in kind) is wrapper}
        first = [name for name, kind in chosen.items() if "tryfirst" in kind]
        last = [name for name, kind in chosen.items() if "trylast" in kind]
        return first + [name for name in chosen if name not in (*first, *last)] + last

    around = group(wrapper=True)
    return [
        *(f"{name} in" for name in around),
        *group(wrapper=False),
        *(f"{name} out" for name in reversed(around)),
    ]


PAIRS = [
    (["plain", "plain"], ["a", "b"]),
    (["plain", "tryfirst"], ["b", "a"]),
    (["tryfirst", "tryfirst"], ["a", "b"]),
    (["trylast", "plain"], ["b", "a"]),
    (["trylast", "trylast"], ["a", "b"]),
    (["trylast", "tryfirst"], ["b", "a"]),
    (["plain", "wrapper"], ["b in", "a", "b out"]),
    (["wrapper", "wrapper"], ["a in", "b in", "b out", "a out"]),
    (["wrapper", "wrapper tryfirst"], ["b in", "a in", "a out", "b out"]),
    (["wrapper trylast", "wrapper"], ["b in", "a in", "a out", "b out"]),
]


@pytest.mark.parametrize("through_pluggy", [False, True], ids=["compiled", "pluggy"])
@pytest.mark.parametrize("hook", hookspecs.names())
def test_two_callbacks_run_in_the_order_of_the_rules_in_every_hook(
    hook: str, through_pluggy: bool
) -> None:
    """List order, for end hooks too; ``tryfirst`` before, ``trylast`` after, wrappers around."""
    found = [(kinds, transcript(hook, kinds, through_pluggy=through_pluggy)) for kinds, _ in PAIRS]
    assert found == PAIRS


@pytest.mark.parametrize("seed", range(200))
def test_random_lists_run_in_the_order_of_the_rules(seed: int) -> None:
    """Compiled dispatch, pluggy's own, and the rules written down independently agree."""
    draw = random.Random(seed)
    kinds = draw.choices(KINDS, k=draw.randint(1, 8))
    hook = draw.choice(["on_epoch_end", "on_train_end", "on_message"])
    compiled = transcript(hook, kinds, through_pluggy=False)
    assert compiled == transcript(hook, kinds, through_pluggy=True) == expected(kinds)


def test_order_tells_who_runs() -> None:
    """``order`` lists each hook that somebody implements, wrappers first."""
    calls: list[str] = []
    kinds = {"a": "trylast", "b": "plain", "c": "wrapper"}
    made = [(name, recorder("on_epoch_end", name, kind, calls)) for name, kind in kinds.items()]
    assert Registry(made).order() == {"on_epoch_end": ["c", "b", "a"]}


def test_a_hook_that_nobody_implements_costs_nothing() -> None:
    """There is no function to call for it; the inert methods of the base class do not count."""
    assert Registry([("a", Callback())]).dispatch("on_epoch_end") is None


def test_a_callback_may_stand_in_the_list_twice() -> None:
    """One object under two names runs twice."""
    calls: list[str] = []
    one = recorder("on_epoch_end", "a", "plain", calls)
    fire(Registry([("a", one), ("a#2", one)]), "on_epoch_end")
    assert calls == ["a", "a"]


class Equal(Callback):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def on_epoch_end(self, logs: Any) -> None:
        logs["count"] = logs.get("count", 0) + 1


def test_equal_and_unhashable_callbacks_are_told_apart() -> None:
    """Dataclasses with equal fields are two callbacks."""
    logs: dict[str, int] = {}
    Registry([("a", Equal()), ("b", Equal())]).dispatch("on_epoch_end")(None, 0, logs)  # type: ignore[misc]
    assert logs == {"count": 2}


# -- results ---------------------------------------------------------------


def test_the_first_result_ends_a_first_result_hook() -> None:
    """Whoever shows a line keeps it from the others."""

    class Shows(Callback):
        def __init__(self, answer: Any) -> None:
            self.answer, self.lines = answer, []  # type: ignore[var-annotated]

        def on_message(self, text: str) -> Any:
            self.lines.append(text)
            return self.answer

    none, yes, late = Shows(None), Shows(True), Shows(True)
    registry = Registry([("none", none), ("yes", yes), ("late", late)])
    show = registry.dispatch("on_message")
    assert show is not None
    assert show(None, "x") is True
    assert [none.lines, yes.lines, late.lines] == [["x"], ["x"], []]


def test_what_other_hooks_return_is_ignored() -> None:
    """A callback that returns something keeps nobody from running."""
    calls: list[str] = []

    class Returns(Callback):
        def on_epoch_end(self) -> str:
            return "something"

    last = recorder("on_epoch_end", "last", "plain", calls)
    assert fire(Registry([("a", Returns()), ("last", last)]), "on_epoch_end") is None
    assert calls == ["last"]


# -- failure ---------------------------------------------------------------


def failing(hook: str, error: BaseException, *, observer: bool = False) -> Any:
    def implementation(self: Any) -> None:
        raise error

    return type("Fails", (Callback,), {hook: implementation, "observer": observer})()


def fire(registry: Registry, hook: str) -> Any:
    call = registry.dispatch(hook)
    return call and call(*(VALUES[argument] for argument in registry.hooks[hook]))


POLICIES = [
    ("auto", False, "raises"),
    ("auto", True, "off"),
    ("raise", False, "raises"),
    ("raise", True, "raises"),
    ("disable", False, "off"),
    ("disable", True, "off"),
]


@pytest.mark.parametrize("through_pluggy", [False, True], ids=["compiled", "pluggy"])
@pytest.mark.parametrize(
    ("policy", "observer", "follows"), POLICIES, ids=[f"{p} {o}" for p, o, _ in POLICIES]
)
def test_what_follows_a_failure(
    policy: Any, observer: bool, follows: str, through_pluggy: bool
) -> None:
    """It ends the run, or turns the callback off and lets the others go on."""
    calls: list[str] = []
    fails = failing("on_epoch_end", KeyError("x"), observer=observer)
    after = recorder("on_epoch_end", "after", "plain", calls)
    registry = Registry([("fails", fails), ("after", after)], policy)
    if through_pluggy:
        registry.trace(lambda hook, arguments: None)
    if follows == "raises":
        with pytest.raises(KeyError) as caught:
            fire(registry, "on_epoch_end")
        note = "raised by callback 'fails' in on_epoch_end (epoch 2, batch 5)"
        assert caught.value.__notes__ == [note]
        assert calls == []
    else:
        with pytest.warns(RuntimeWarning) as warned:
            fire(registry, "on_epoch_end")
        fire(registry, "on_epoch_end")
        assert len(warned) == 1
        assert calls == ["after", "after"]
        assert list(registry.disabled) == ["fails"]


def test_the_warning_of_a_failed_observer_says_what_and_where_and_what_to_do() -> None:
    """It names callback, hook and place, holds the traceback, and ends with a ``fix:``."""
    registry = Registry([("fails", failing("on_epoch_end", KeyError("x"), observer=True))], "auto")
    with pytest.warns(RuntimeWarning) as warned:
        fire(registry, "on_epoch_end")
    lines = str(warned[0].message).splitlines()
    assert lines[0] == (
        "fails failed in on_epoch_end (epoch 2, batch 5) and is off for the rest of this run; "
        "training goes on without it."
    )
    assert lines[1] == "Traceback (most recent call last):"
    assert "KeyError: 'x'" in lines
    assert lines[-1] == (
        "fix: mend or leave out 'fails'; on_callback_error='raise' stops the run instead"
    )


@pytest.mark.reliability("E1")
@pytest.mark.parametrize("kind", ["plain", "wrapper"])
def test_a_callback_that_failed_is_off_in_every_hook_also_in_kept_ones(kind: str) -> None:
    """Also where the loop keeps the compiled hook in a variable, and where it is a wrapper."""
    calls: list[str] = []
    begin = recorder("on_train_batch_begin", "begin", kind, calls)
    end = failing("on_train_batch_end", KeyError("x"), observer=True)
    both = type("Both", (type(begin), type(end)), {})()
    other = recorder("on_train_batch_begin", "other", "plain", calls)
    registry = Registry([("both", both), ("other", other)], "auto")
    kept = registry.dispatch("on_train_batch_begin")
    assert kept is not None
    kept(None, 0, {})
    seen = len(calls)
    with pytest.warns(RuntimeWarning):
        fire(registry, "on_train_batch_end")
    kept(None, 1, {})
    assert calls[seen:] == ["other"]


class OutOfMemoryError(RuntimeError):
    """Named as torch's own is."""


class AcceleratorError(RuntimeError):
    """Named as torch's own is."""


FATAL = [KeyboardInterrupt(), SystemExit(3), MemoryError(), OutOfMemoryError(), AcceleratorError()]


@pytest.mark.reliability("E4")
@pytest.mark.parametrize("hook", ["on_epoch_end", "on_train_end"])
@pytest.mark.parametrize("error", FATAL, ids=[type(error).__name__ for error in FATAL])
def test_some_errors_are_never_swallowed(error: BaseException, hook: str) -> None:
    """Interrupts, out-of-memory and accelerator errors end the run under any policy."""
    registry = Registry([("fails", failing(hook, error, observer=True))], "disable")
    with pytest.raises(type(error)):
        fire(registry, hook)
    assert registry.disabled == {}


@pytest.mark.reliability("E3")
@pytest.mark.parametrize("hook", ["on_train_end", "on_exception", "on_test_end", "on_predict_end"])
def test_end_hooks_are_shielded_from_each_other(hook: str) -> None:
    """Everybody runs; then the first failure is raised, with the others as its notes."""
    calls: list[str] = []
    registry = Registry(
        [
            ("one", failing(hook, KeyError("one"))),
            ("two", failing(hook, ValueError("two"))),
            ("last", recorder(hook, "last", "plain", calls)),
        ]
    )
    with pytest.raises(KeyError, match="one") as caught:
        fire(registry, hook)
    assert calls == ["last"]
    assert caught.value.__notes__ == [
        f"raised by callback 'one' in {hook} (epoch 2, batch 5)",
        "and then ValueError: two",
    ]


@pytest.mark.reliability("E3", "E4")
def test_an_interrupt_in_an_end_hook_is_not_hidden_by_an_earlier_failure() -> None:
    """Ctrl-C stays Ctrl-C; the other failure becomes its note."""
    registry = Registry(
        [
            ("one", failing("on_train_end", KeyError("one"))),
            ("two", failing("on_train_end", KeyboardInterrupt())),
        ]
    )
    with pytest.raises(KeyboardInterrupt) as caught:
        fire(registry, "on_train_end")
    assert "and then KeyError: 'one'" in caught.value.__notes__


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("on_train_begin", "on_train_end"),
        ("on_train_begin", "on_exception"),
        ("on_test_begin", "on_test_end"),
        ("on_predict_begin", "on_predict_end"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_whoever_saw_the_begin_sees_the_end_and_nobody_else(
    begin: str, end: str, kind: str
) -> None:
    """A callback further down the list than one that failed to begin was never opened."""
    calls: list[str] = []

    def both(name: str) -> Any:
        classes = [type(recorder(hook, name, kind, calls)) for hook in (begin, end)]
        return type(name, tuple(classes), {})()

    begins = failing(begin, ValueError("no"))
    before, after = ("before", both("before")), ("after", both("after"))
    opened = Registry([before, after])
    fire(opened, begin)
    calls.clear()
    fire(opened, end)
    assert {call.split()[0] for call in calls} == {"before", "after"}
    if kind != "plain":
        return
    cut = Registry([before, ("fails", begins), after])
    with pytest.raises(ValueError, match="no"):
        fire(cut, begin)
    calls.clear()
    fire(cut, end)
    assert calls == ["before"]


def test_a_new_run_begins_with_nobody_opened() -> None:
    """What an earlier evaluation opened does not count in the next one."""
    calls: list[str] = []
    both = type(
        "Both",
        (Callback,),
        {"on_test_begin": lambda self: None, "on_test_end": lambda self: calls.append("end")},
    )()
    registry = Registry([("both", both)])
    fire(registry, "on_test_begin")
    registry.begin("on_test_begin")
    fire(registry, "on_test_end")
    assert calls == []


# -- wrappers ---------------------------------------------------------------


def wrapper(body: Callable[..., Any], hook: str = "on_epoch_end", *, observer: bool = False) -> Any:
    members = {hook: hookimpl(wrapper=True)(body), "observer": observer}
    return type("Wraps", (Callback,), members)()


def test_a_wrapper_sees_the_failure_of_whom_it_wraps() -> None:
    """It may raise something else in its place, as in pluggy; the note names who failed first."""

    def translate(self: Any) -> Any:
        try:
            return (yield)
        except KeyError as error:
            raise RuntimeError("translated") from error

    registry = Registry(
        [("wraps", wrapper(translate)), ("fails", failing("on_epoch_end", KeyError("x")))]
    )
    with pytest.raises(RuntimeError, match="translated") as caught:
        fire(registry, "on_epoch_end")
    assert caught.value.__cause__.__notes__ == [
        "raised by callback 'fails' in on_epoch_end (epoch 2, batch 5)"
    ]


def test_an_observing_wrapper_that_fails_is_turned_off_not_whom_it_wraps() -> None:
    """Before or after its yield: the wrapped callbacks run, once, and go on running."""
    calls: list[str] = []

    def before(self: Any) -> Any:
        raise KeyError("before")
        yield

    def after(self: Any) -> Any:
        yield
        raise KeyError("after")

    for body in (before, after):
        calls.clear()
        inner = recorder("on_epoch_end", "inner", "plain", calls)
        registry = Registry([("wraps", wrapper(body, observer=True)), ("inner", inner)], "auto")
        with pytest.warns(RuntimeWarning, match="wraps failed in on_epoch_end"):
            fire(registry, "on_epoch_end")
        fire(registry, "on_epoch_end")
        assert calls == ["inner", "inner"]


def _never(self: Any) -> Any:
    if self is None:
        yield


def _twice(self: Any) -> Any:
    yield
    yield


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (_never, "wraps: the wrapper on_epoch_end did not yield.\nfix: `return (yield)` in it"),
        (
            _twice,
            "wraps: the wrapper on_epoch_end yields twice.\nfix: `return (yield)` once in it",
        ),
    ],
    ids=["never", "twice"],
)
def test_a_wrapper_yields_once(body: Callable[..., Any], text: str) -> None:
    """Anything else is an error that says so."""
    with pytest.raises(HookError) as caught:
        fire(Registry([("wraps", wrapper(body))]), "on_epoch_end")
    assert str(caught.value) == text


# -- hooks that plugins bring ---------------------------------------------------------------


class Saved:
    """Hooks with arguments named as unluckily as possible."""

    @hookspec
    def on_checkpoint_saved(
        self, path: str, error: Any, failed: Any, result: Any, loop: Any
    ) -> None:
        """A file is on disk."""


class Owner(Callback):
    hookspecs = Saved


class Listener(Callback):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_checkpoint_saved(self, path: str, error: Any, failed: Any, result: Any) -> str:
        self.heard.append((path, error, failed, result))
        return f"heard {path}"


BROUGHT = {"path": "x.pt", "error": 1, "failed": 2, "result": 3, "loop": None}


def test_a_hook_that_a_plugin_brings_reaches_its_listeners_whatever_its_arguments_are_called() -> (
    None
):
    """``call`` gives what pluggy gives: the list of results."""
    listener = Listener()
    registry = Registry([("owner", Owner()), ("listener", listener)])
    assert registry.call("on_checkpoint_saved", **BROUGHT) == ["heard x.pt"]
    assert listener.heard == [("x.pt", 1, 2, 3)]


def test_two_instances_that_bring_the_same_hooks_bring_them_once() -> None:
    """Two savers in one list are no clash."""
    registry = Registry([("owner", Owner()), ("owner#2", Owner()), ("listener", Listener())])
    assert registry.call("on_checkpoint_saved", **BROUGHT) == ["heard x.pt"]


def test_two_owners_of_one_hook_are_refused() -> None:
    """The error names both."""

    class Others:
        @hookspec
        def on_checkpoint_saved(self, path: str) -> None:
            """Another hook of that name."""

    class Rival(Callback):
        hookspecs = Others

    with pytest.raises(HookError) as caught:
        Registry([("owner", Owner()), ("rival", Rival())])
    assert str(caught.value) == (
        "rival and owner both specify the hook 'on_checkpoint_saved'."
        "\nfix: leave one of them out, or rename its hook"
    )


def test_a_hook_of_the_core_cannot_be_brought_again() -> None:
    """The core is an owner like any other."""

    class Others:
        @hookspec
        def on_epoch_end(self, loop: Any) -> None:
            """Not this one."""

    rival = type("Rival", (Callback,), {"hookspecs": Others})()
    with pytest.raises(HookError, match="rival and hookloop both specify the hook 'on_epoch_end'"):
        Registry([("rival", rival)])


def test_an_optional_hook_may_lack_its_owner() -> None:
    """``optionalhook=True`` is silent where nobody brings the hook, and runs where one does."""

    class Optional(Callback):
        @hookimpl(optionalhook=True)
        def on_checkpoint_saved(self, path: str) -> str:
            return path

    assert Registry([("optional", Optional())]).order() == {}
    registry = Registry([("optional", Optional()), ("owner", Owner())])
    assert registry.call("on_checkpoint_saved", **BROUGHT) == ["x.pt"]


@pytest.mark.parametrize(
    ("hook", "arguments", "text"),
    [
        (
            "on_epoch_ends",
            {},
            "No hook 'on_epoch_ends' is specified. Did you mean 'on_epoch_end'?"
            "\nfix: specify it in the `hookspecs` of a callback of this run",
        ),
        (
            "on_checkpoint_saved",
            {"path": "x"},
            "on_checkpoint_saved was called with path."
            "\nfix: call it with path, error, failed, result, loop",
        ),
    ],
    ids=["unknown", "arguments"],
)
def test_calling_a_hook_wrongly_is_an_error(hook: str, arguments: Any, text: str) -> None:
    """It says what exists."""
    with pytest.raises(HookError) as caught:
        Registry([("owner", Owner())]).call(hook, **arguments)
    assert str(caught.value) == text


def test_a_module_that_imports_the_core_s_hookspecs_brings_nothing() -> None:
    """A module with hook functions is a callback; what it imports is not its own."""
    module = type(hookspecs)("listener")
    module.hookspecs = hookspecs  # type: ignore[attr-defined]
    heard: list[int] = []
    module.on_epoch_end = lambda epoch: heard.append(epoch)  # type: ignore[attr-defined]  # noqa: PLW0108
    fire(Registry([("listener", module)]), "on_epoch_end")
    assert heard == [2]


# -- tracing ---------------------------------------------------------------


def test_a_tracer_sees_every_call_with_its_arguments_also_of_unimplemented_hooks() -> None:
    """That is how the transcript of a run is taken."""
    seen: list[tuple[str, dict[str, Any]]] = []
    registry = Registry([])
    assert registry.dispatch("on_epoch_begin") is None
    registry.trace(lambda hook, arguments: seen.append((hook, arguments)))
    registry.dispatch("on_epoch_begin")(None, 3, {})  # type: ignore[misc]
    assert seen == [("on_epoch_begin", {"loop": None, "epoch": 3, "logs": {}})]


def test_a_callback_whose_only_method_is_a_misspelt_hook_is_warned_of() -> None:
    """onEpochEnd, as some other library has it, would silently never run."""

    class Mine(Callback):
        def onEpochEnd(self) -> None:
            pass

    with pytest.warns(UserWarning, match="onEpochEnd") as caught:
        Registry([("mine", Mine())])
    assert str(caught[0].message) == (
        "mine implements no hook, so it does nothing: onEpochEnd is no hook. Did you mean "
        "'on_epoch_end'?\nfix: rename the method"
    )
