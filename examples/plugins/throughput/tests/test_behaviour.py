"""Throughput with a clock that the test winds: what it measures, leaves out and remembers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hookloop import Callback, CallbackList, Trainer, hookimpl, load
from hookloop.errors import SettingError

KEYS = ("samples_per_second", "step_seconds", "waiting")


class Clock:
    """Stands still until a test moves it on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def epoch(callback: Any, batches: list[tuple[float, float, int]]) -> dict[str, float]:
    """Run an epoch; each batch is the seconds of waiting, those of work, and its samples."""
    callback.clock = clock = Clock()
    callbacks = CallbackList([callback], model=None)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for batch, (waiting, working, size) in enumerate(batches):
        clock.now += waiting
        callbacks.on_train_batch_begin(batch, {"size": size})
        clock.now += working
        callbacks.on_train_batch_end(batch, {"size": size, "loss": 1.0})
    clock.now += 1000.0  # a validation, which is no time of training
    logs: dict[str, float] = {}
    callbacks.on_epoch_end(0, logs)
    callbacks.on_train_end()
    return logs


@pytest.mark.parametrize(
    ("warm_up", "expected"),
    [
        pytest.param(0, (20 / 10.0, 8.0 / 2, 2.0 / 10.0), id="all"),
        pytest.param(1, (12 / 6.0, 5.0, 1.0 / 6.0), id="without the first"),
        pytest.param(2, None, id="none is left"),
    ],
)
def test_it_reports_the_time_of_training(warm_up: int, expected: tuple[float, ...] | None) -> None:
    """Batches are counted from the data on, and what comes after the last one is not."""
    logs = epoch(load("throughput", warm_up=warm_up), [(1.0, 3.0, 8), (1.0, 5.0, 12)])

    assert logs == (
        {} if expected is None else pytest.approx(dict(zip(KEYS, expected, strict=True)))
    )


def test_what_the_clock_cannot_tell_is_not_reported() -> None:
    """Where no time passed there is no rate, and nothing to divide by."""
    assert epoch(load("throughput"), [(0.0, 0.0, 8)]) == {}


def test_saving_and_other_callbacks_are_work_and_not_waiting() -> None:
    """Only the time from the end of one batch to the beginning of the next is that of the data."""
    clock = Clock()

    class Saver(Callback):
        def on_train_batch_end(self) -> None:
            clock.now += 1.0

        @hookimpl(tryfirst=True)
        def on_batch_checkpoint(self) -> None:
            clock.now += 2.0

    callback = load("throughput")
    callback.clock = clock
    x = torch.linspace(-1, 1, 8).reshape(-1, 1)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1")
    trainer.fit((x, x), batch_size=4, callbacks=[callback, Saver()], verbose=0)

    assert trainer.history.history["step_seconds"] == [3.0]
    assert trainer.history.history["waiting"] == [0.0]
    assert trainer.history.history["samples_per_second"] == [pytest.approx(8 / 6.0)]


def test_every_epoch_is_measured_by_itself() -> None:
    """Each has its row in the history."""
    x = torch.linspace(-1, 1, 8).reshape(-1, 1)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1")
    trainer.fit((x, x), epochs=3, callbacks=["throughput"], verbose=0)

    assert [len(trainer.history.history[key]) for key in KEYS] == [3, 3, 3]


def test_a_restart_inside_an_epoch_goes_on_measuring_it() -> None:
    """The batches before count; the time between the two processes does not."""
    before, after = load("throughput"), load("throughput")
    before.clock = after.clock = clock = Clock()
    before.on_epoch_begin()
    before.on_train_batch_begin()
    clock.now += 4.0
    before.on_train_batch_end({"size": 8})
    after.on_epoch_begin()
    clock.now += 1000.0
    after.load_state_dict(before.state_dict())
    after.on_train_batch_begin()
    clock.now += 2.0
    after.on_train_batch_end({"size": 8})
    logs: dict[str, float] = {}
    after.on_epoch_end(logs)

    assert logs == {"samples_per_second": 16 / 6.0, "step_seconds": 3.0, "waiting": 0.0}


def test_settings_that_make_no_sense_are_refused() -> None:
    """Before any training, with what to write instead."""
    with pytest.raises(SettingError, match=r"warm_up=-1.*\nfix: warm_up=0 or more"):
        load("throughput", warm_up=-1)
