"""BestMetric and a listener that knows nothing of it: what is announced, and when."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hookloop import Callback, CallbackList, hookimpl, load
from hookloop.errors import HookError


class Listener(Callback):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[int | None, str, float]] = []

    @hookimpl(optionalhook=True)
    def on_new_best(self, loop: Any, monitor: str, value: float) -> None:
        self.heard.append((loop.epoch, monitor, value))


def heard(callback: Any, values: list[float]) -> list[tuple[int | None, str, float]]:
    """Give what is announced in a run that reports one value an epoch."""
    listener = Listener()
    callbacks = CallbackList([callback, listener], model=None)
    callbacks.on_train_begin()
    for epoch, value in enumerate(values):
        callbacks.on_epoch_end(epoch, {"acc": value, "loss": value})
    callbacks.on_train_end()
    return listener.heard


@pytest.mark.parametrize(
    ("settings", "values", "epochs"),
    [
        pytest.param({"monitor": "loss"}, [1.0, 2.0, 0.5], [0, 2], id="down"),
        pytest.param({"monitor": "acc"}, [0.1, 0.3, 0.2], [0, 1], id="up"),
        pytest.param({"monitor": "loss", "mode": "max"}, [1.0, 2.0, 0.5], [0, 1], id="told"),
        pytest.param(
            {"monitor": "loss", "min_delta": 0.2}, [1.0, 0.9, 0.7], [0, 2], id="by that much"
        ),
        pytest.param({"monitor": "loss"}, [math.nan, 1.0, math.nan], [1], id="never nan"),
        pytest.param({"monitor": "loss"}, [1.0, 1.0], [0], id="not an equal one"),
    ],
)
def test_every_new_best_is_announced(
    settings: dict[str, Any], values: list[float], epochs: list[int]
) -> None:
    """Once, in its epoch, with the name and the value of the metric."""
    found = heard(load("best_metric", **settings), values)

    assert found == [(epoch, settings["monitor"], values[epoch]) for epoch in epochs]


def test_it_knows_the_best_itself() -> None:
    """For who asks later."""
    callback = load("best_metric:monitor=loss")
    heard(callback, [1.0, 0.5, 2.0])

    assert (callback.best, callback.best_epoch) == (0.5, 1)


def test_a_restart_announces_only_what_is_better_than_before() -> None:
    """The best value survives with the run."""
    before, after = load("best_metric:monitor=loss"), load("best_metric:monitor=loss")
    heard(before, [1.0, 0.5])
    listener = Listener()
    callbacks = CallbackList([after, listener], model=None)
    callbacks.on_train_begin()
    after.load_state_dict(before.state_dict())
    for epoch, value in ((2, 0.7), (3, 0.4)):
        callbacks.on_epoch_end(epoch, {"loss": value})
    callbacks.on_train_end()

    assert listener.heard == [(3, "loss", 0.4)]


def test_a_listener_runs_where_nobody_announces() -> None:
    """The two packages need not be installed together."""
    callbacks = CallbackList([Listener()], model=None)
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0, {"loss": 1.0})
    callbacks.on_train_end()


def test_a_listener_that_asks_for_what_the_hook_does_not_have_is_refused() -> None:
    """A hook that a plugin brings is checked like those of hookloop."""

    class Deaf(Callback):
        @hookimpl(optionalhook=True)
        def on_new_best(self, metric: str) -> None:
            pass

    with pytest.raises(HookError, match="asks for 'metric', which on_new_best does not have"):
        heard_by(Deaf())


def heard_by(listener: Callback) -> None:
    callbacks = CallbackList(["best_metric:monitor=loss", listener], model=None)
    callbacks.on_train_begin()
