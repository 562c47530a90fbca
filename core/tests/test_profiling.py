"""Profiling: time is told of the callback and the hook that took it, and costs nothing when off."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

import hookloop
from hookloop import Callback, HookloopError, Trainer, hookimpl
from hookloop.profiling import Profile
from hookloop.registry import Registry

X = torch.ones(6, 1)


class Clock:
    """A clock that goes on when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(Profile, "clock", staticmethod(clock))
    return clock


class Takes(Callback):
    """Takes so many seconds in each of some hooks."""

    def __init__(self, clock: Clock, name: str, **seconds: float) -> None:
        self.clock, self.name, self.seconds = clock, name, seconds

    def _take(self, hook: str) -> None:
        self.clock.now += self.seconds.get(hook, 0.0)

    def on_epoch_begin(self) -> None:
        self._take("epoch_begin")

    def on_train_batch_begin(self) -> None:
        self._take("batch_begin")

    def on_train_batch_end(self) -> None:
        self._take("batch_end")

    def on_epoch_end(self) -> None:
        self._take("epoch_end")


class Data:
    """Three batches, each of which takes one second to be had."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __iter__(self) -> Any:
        for _ in range(3):
            self.clock.now += 1
            yield X, X


def fit(clock: Clock, *callbacks: Any, **options: Any) -> Any:
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd", device="cpu")
    return trainer.fit(
        Data(clock),
        epochs=2,
        callbacks=list(callbacks),
        verbose=0,
        profile_callbacks=True,
        **options,
    )


def rows(text: str) -> list[list[str]]:
    return [line.split("  ") for line in text.splitlines()]


@pytest.mark.reliability("E6")
def test_a_plugin_that_blocks_is_named_with_the_hook_it_blocks_in(
    clock: Clock, capsys: Any
) -> None:
    """5 s a hook: the table at the end says who, where, how often, and how much of the run."""
    slow = Takes(clock, "slow", epoch_begin=5, batch_begin=5, batch_end=5, epoch_end=5)
    fit(clock, slow, Takes(clock, "quick", batch_end=0.01))

    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [
        "slow takes 91% of a step: 10 s of 11 s, most of it in on_train_batch_begin.",
        "fix: do less in it, or do it every hundred batches",
    ]
    assert said[2:4] == [
        "Time of the callbacks in a run of 86.1 s; a step takes 11 s",
        "callback           hook                  calls  a call  in all  share",
    ]
    assert set(said[4:8]) == {
        "slow               on_train_batch_begin  6      5 s     30 s    34.9%",
        "slow               on_train_batch_end    6      5 s     30 s    34.9%",
        "slow               on_epoch_begin        2      5 s     10 s    11.6%",
        "slow               on_epoch_end          2      5 s     10 s    11.6%",
    }
    assert said[8] == "quick              on_train_batch_end    6      10 ms   60 ms   0.1%"
    assert said[-1].split() == ["(everything", "else)", "6", "s", "7.0%"]


@pytest.mark.parametrize(("seconds", "named"), [(0.05, False), (0.06, True)])
def test_a_callback_is_named_once_above_a_twentieth_of_a_step(
    clock: Clock, capsys: Any, seconds: float, named: bool
) -> None:
    """Whatever it takes at the ends of epochs, which is no part of a step."""
    fit(clock, Takes(clock, "one", batch_end=seconds, epoch_end=100))

    said = [line for line in capsys.readouterr().out.splitlines() if " of a step: " in line]
    took = ["one takes 6% of a step: 60 ms of 1.06 s, most of it in on_train_batch_end."]
    assert said == (took if named else [])


def test_time_within_a_hook_that_another_fires_is_the_other_s(clock: Clock, capsys: Any) -> None:
    """A line that the bar shows costs the bar, not who has something to say."""

    class Says(Callback):
        def on_epoch_end(self) -> None:
            clock.now += 1
            self.loop.message("hello")
            clock.now += 1

    class Shows(Callback):
        def on_message(self, text: str) -> bool:
            clock.now += 7
            return True

    class Prints(Callback):
        def on_train_end(self) -> None:
            self.loop.describe(times=True)

    fit(clock, Says(), Shows(), Prints())
    found = capsys.readouterr().out
    assert "says               on_epoch_end        2      2 s     4 s" in found
    assert "shows              on_message          2      7 s     14 s" in found


def test_a_wrapper_takes_what_it_takes_itself(clock: Clock, capsys: Any) -> None:
    """Not what is inside of it."""

    class Wraps(Callback):
        @hookimpl(wrapper=True)
        def on_epoch_end(self) -> Any:
            clock.now += 1
            result = yield
            clock.now += 2
            return result

    fit(clock, Wraps(), Takes(clock, "inner", epoch_end=50))
    found = capsys.readouterr().out
    assert "inner              on_epoch_end          2      50 s    100 s" in found
    assert "wraps              on_epoch_end          2      3 s     6 s" in found


def test_failures_are_what_they_are_without_it(clock: Clock) -> None:
    """The note names callback and hook; an observer is turned off."""

    class Fails(Callback):
        def on_train_batch_end(self) -> None:
            raise KeyError("x")

    with pytest.raises(KeyError) as raised:
        fit(clock, Fails())
    note = "raised by callback 'fails' in on_train_batch_end (epoch 0, batch 0)"
    assert raised.value.__notes__ == [note]
    Fails.observer = True
    with pytest.warns(RuntimeWarning, match="fails failed in on_train_batch_end"):
        assert fit(clock, Fails()).epoch == [0, 1]


def test_the_table_can_be_asked_for_at_any_time_in_any_loop(clock: Clock) -> None:
    """Also by a loop written by hand, between two epochs."""
    file = io.StringIO()
    model = torch.nn.Linear(1, 1)
    callbacks = [Takes(clock, "one", batch_end=2)]
    with hookloop.attach(model, callbacks=callbacks, epochs=1, profile_callbacks=True) as loop:
        for _ in loop.epochs():
            for _ in loop.batches([1, 2]):
                pass
            loop.describe(file, times=True)

    assert "one                on_train_batch_end    2      2 s     4 s" in file.getvalue()


def test_a_run_that_is_not_measured_says_how_to_have_it_measured() -> None:
    """And prints nothing at its end."""
    run = hookloop.CallbackList([], model=None)
    run.on_train_begin()
    with pytest.raises(HookloopError) as refused:
        run.loop.describe(times=True)
    assert str(refused.value) == (
        "The time of the callbacks is not measured in this run.\n"
        "fix: fit(..., profile_callbacks=True), or attach with it"
    )


def test_off_it_costs_nothing() -> None:
    """What is compiled calls the methods themselves; nobody stands between, no hook is added."""
    callback = Takes(Clock(), "one")
    plain, measured = (
        Registry([("one", callback)]),
        Registry([("one", callback)], "raise", Profile()),
    )

    assert plain.dispatch("on_train_begin") is None
    assert measured.dispatch("on_train_begin") is not None
    bound = plain._namespace["_0_on_train_batch_end"]
    assert bound == callback.on_train_batch_end
    assert measured._namespace["_0_on_train_batch_end"] != bound
