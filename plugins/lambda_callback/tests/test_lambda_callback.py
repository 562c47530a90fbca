"""Functions as callbacks: which hooks there are, and what each function is given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hookloop_lambda_callback import LambdaCallback

from hookloop import CallbackList, Trainer, hookimpl, hookspecs, load
from hookloop.errors import SettingError

DATA = (torch.ones(2, 1), torch.ones(2, 1))


def fit(*callbacks: Any, **options: Any) -> Trainer:
    """Train for one epoch of two batches."""
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1", seed=0)
    trainer.fit(DATA, batch_size=1, callbacks=list(callbacks), verbose=0, **options)
    return trainer


def given(hook: str, function: Callable[..., Any], *arguments: Any) -> None:
    """Call one hook of a run, with what follows ``loop`` among its arguments."""
    callbacks = CallbackList([LambdaCallback(**{hook: function})], model=torch.nn.Linear(1, 1))
    callbacks.on_train_begin()
    getattr(callbacks, hook)(*arguments)


@pytest.mark.parametrize("hook", hookspecs.names())
def test_every_hook_can_be_given(hook: str) -> None:
    """Each hook of the contract has a keyword, and its function is called in a run."""
    calls: list[str] = []
    callback = LambdaCallback(**{hook: lambda: calls.append(hook)})

    if hook == "on_exception":
        with pytest.raises(ZeroDivisionError):
            fit(callback, LambdaCallback(on_epoch_begin=lambda: 1 / 0))
    else:
        trainer = fit(
            callback,
            LambdaCallback(on_epoch_end=lambda loop: loop.message("")),
            LambdaCallback(on_message=lambda: True),
            validation_data=DATA,
        )
        trainer.predict(DATA[0], callbacks=[callback], verbose=0)

    assert set(calls) == {hook}


def test_the_older_spellings_mean_the_present_hooks() -> None:
    """`on_batch_begin` and `on_batch_end` of Keras 1 and 2 are called for each batch."""
    calls: list[str] = []
    fit(
        LambdaCallback(
            on_batch_begin=lambda b, l: calls.append(f"begin {b}"),  # noqa: E741
            on_batch_end=lambda b, l: calls.append(f"end {b}"),  # noqa: E741
        )
    )

    assert calls == ["begin 0", "end 0", "begin 1", "end 1"]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        pytest.param(lambda a, b: (a, dict(b)), (7, {"loss": 0.5}), id="positions"),
        pytest.param(lambda a: a, 7, id="first-position"),
        pytest.param(lambda: "nothing", "nothing", id="none"),
        pytest.param(lambda logs: logs["loss"], 0.5, id="by-name"),
        pytest.param(lambda logs, epoch: (epoch, logs["loss"]), (7, 0.5), id="by-name-any-order"),
        pytest.param(lambda loop, epoch: (type(loop).__name__, epoch), ("ListLoop", 7), id="loop"),
        pytest.param(lambda *, loop, epoch: epoch, 7, id="keyword-only"),
        pytest.param(lambda a, *, loop: (a, loop.epoch), (7, 7), id="position-and-loop"),
        pytest.param(lambda *a: len(a), 2, id="star"),
        pytest.param(lambda **k: sorted(k), ["epoch", "logs", "loop"], id="double-star"),
        pytest.param(lambda a, **k: (a, sorted(k)), (7, ["logs", "loop"]), id="position-and-rest"),
        pytest.param(lambda *a, **k: (a[0], sorted(k)), (7, ["loop"]), id="star-and-double-star"),
        pytest.param(lambda a, b, c=3: (a, c), (7, 3), id="own-default-behind"),
        pytest.param(lambda epoch, k=3: (epoch, k), (7, 3), id="own-default-after-name"),
        pytest.param(lambda loop, k=3, logs=None: (k, logs["loss"]), (3, 0.5), id="gap"),
        pytest.param(lambda a, /: a, 7, id="positional-only"),
        pytest.param(lambda epoch, /: epoch, 7, id="positional-only-with-a-name"),
        pytest.param(functools.partial(lambda k, a, b: (k, a), 1), (1, 7), id="partial"),
    ],
)
def test_what_a_function_is_given(function: Callable[..., Any], expected: Any) -> None:
    """By position without the loop as in Keras, or by name if the parameters are named so."""
    results: list[Any] = []

    @functools.wraps(function, updated=())
    def recorded(*args: Any, **kwargs: Any) -> None:
        results.append(function(*args, **kwargs))

    given("on_epoch_end", recorded, 7, {"loss": 0.5})

    assert results == [expected]


def test_a_bound_method_and_a_builtin_can_be_given() -> None:
    """As in Keras, where appending to a list is a usual function."""
    epochs: list[int] = []
    given("on_epoch_end", epochs.append, 7, {})

    assert epochs == [7]


@pytest.mark.parametrize(
    ("hook", "arguments", "expected"),
    [
        pytest.param("on_train_end", (), ["Logs"], id="train-end"),
        pytest.param("on_epoch_begin", (1,), ["int", "Logs"], id="epoch-begin"),
        pytest.param("on_train_batch_end", (1,), ["int", "Logs"], id="batch-end"),
        pytest.param("on_exception", (KeyError(),), ["KeyError"], id="exception"),
    ],
)
def test_positions_follow_the_hook(hook: str, arguments: Any, expected: list[str]) -> None:
    """Each hook gives its own arguments, in the order of its specification."""
    results: list[str] = []
    given(hook, lambda *a: results.extend(type(one).__name__ for one in a), *arguments)

    assert results == expected


def test_a_function_of_on_message_that_returns_true_has_shown_the_line() -> None:
    """What a function returns is the hook's result."""
    lines: list[str] = []
    fit(
        LambdaCallback(on_epoch_end=lambda loop: loop.message("hello")),
        LambdaCallback(on_message=lambda text: lines.append(text) or True),
    )

    assert lines == ["hello"]


def test_the_order_within_a_hook_can_be_marked() -> None:
    """hookimpl(tryfirst=True) means on a function what it means on a method."""
    calls: list[str] = []
    first = hookimpl(tryfirst=True)(lambda: calls.append("first"))
    fit(
        LambdaCallback(on_train_end=lambda: calls.append("second")),
        LambdaCallback(on_train_end=first),
    )

    assert calls == ["first", "second"]


def test_none_is_no_function() -> None:
    """None, Keras's default, leaves a hook out."""
    assert not hasattr(LambdaCallback(on_epoch_end=None).on_epoch_end, "__wrapped__")


def test_found_by_name() -> None:
    """load() takes functions as settings."""
    epochs: list[int] = []
    callback = load("lambda_callback", on_epoch_end=epochs.append)
    fit(callback)

    assert isinstance(callback, LambdaCallback)
    assert epochs == [0]


@pytest.mark.parametrize("make", [LambdaCallback, functools.partial(load, "lambda_callback")])
def test_a_misspelt_hook_is_refused_with_a_suggestion(make: Callable[..., Any]) -> None:
    """Keras keeps a function under any name and never calls it."""
    with pytest.raises(SettingError, match=r"on_epoch_edn.*Did you mean 'on_epoch_end'\?"):
        make(on_epoch_edn=lambda: None)


@pytest.mark.parametrize("make", [LambdaCallback, functools.partial(load, "lambda_callback")])
def test_what_is_no_function_is_refused(make: Callable[..., Any]) -> None:
    """A result in place of a function is found before training."""
    with pytest.raises(SettingError, match="on_epoch_end=3 is a"):
        make(on_epoch_end=3)


def test_both_spellings_of_one_hook_are_refused() -> None:
    """Only one of them could be called."""
    with pytest.raises(SettingError, match="two spellings of one hook"):
        LambdaCallback(on_batch_end=lambda: None, on_train_batch_end=lambda: None)


@pytest.mark.parametrize(
    "function",
    [lambda a, b, c: None, lambda epoch, *, color: None, lambda a, *, color: None],
    ids=["three-positions", "keyword-that-is-none", "position-and-keyword-that-is-none"],
)
def test_a_function_that_wants_too_much_is_refused(function: Callable[..., Any]) -> None:
    """What the hook could never give is found before training, not at the end of an epoch."""
    with pytest.raises(SettingError, match=r"(?s)on_epoch_end wants.*fix: .*epoch, logs"):
        LambdaCallback(on_epoch_end=function)


def test_a_coroutine_and_a_generator_are_refused() -> None:
    """Calling one would run nothing of it."""

    async def coroutine() -> None: ...

    def generator() -> Any:
        yield

    for function in (coroutine, generator):
        with pytest.raises(SettingError, match="fix: "):
            LambdaCallback(on_epoch_end=function)


def test_a_failing_function_ends_the_run_with_its_own_exception() -> None:
    """The exception keeps its type and says where it comes from."""
    with pytest.raises(ZeroDivisionError) as caught:
        fit(LambdaCallback(on_epoch_end=lambda: 1 / 0))

    assert caught.value.__notes__ == [
        "raised by callback 'lambda_callback' in on_epoch_end (epoch 0)"
    ]
