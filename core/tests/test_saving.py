"""When it is time to save."""

from __future__ import annotations

import sys

import pytest

from hookloop.copying import Snapshot
from hookloop.errors import SettingError
from hookloop.saving import Trigger, read_frequency


class Clock:
    """A clock that stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def started(amount: float, unit: str, clock: Clock | None = None) -> Trigger:
    trigger = Trigger(amount, unit, clock or Clock())
    trigger.start(step=0)
    return trigger


@pytest.mark.parametrize(
    ("save_freq", "period", "expected"),
    [
        ("epoch", None, (1, "epochs")),
        ("epoch", 3, (3, "epochs")),
        ("2 epochs", None, (2, "epochs")),
        ("1 epoch", None, (1, "epochs")),
        (100, None, (100, "batches")),
        ("100 batches", None, (100, "batches")),
        ("500 steps", None, (500, "steps")),
        ("500steps", None, (500, "steps")),
        ("30 s", None, (30, "seconds")),
        ("10 min", None, (600, "seconds")),
        ("10 Minutes", None, (600, "seconds")),
        ("1.5 hours", None, (5400, "seconds")),
    ],
)
def test_a_frequency_is_read_as_it_is_written(
    save_freq: int | str, period: int | None, expected: tuple[float, str]
) -> None:
    """Numbers are batches, words have a unit, period is the older name."""
    assert read_frequency(save_freq, period, who="saver") == expected


@pytest.mark.parametrize(
    ("save_freq", "period", "said"),
    [
        (0, None, "save_freq=0 is no positive whole number"),
        (-1, None, "save_freq=-1 is no positive whole number"),
        (True, None, "save_freq=True is no positive whole number"),
        (False, None, "save_freq=False is no positive whole number"),
        (2.0, None, "save_freq=2.0 is no positive whole number"),
        (None, None, "save_freq=None is no positive whole number"),
        ("100", None, "save_freq='100' cannot be read"),
        ("often", None, "save_freq='often' cannot be read"),
        ("-2 epochs", None, "save_freq='-2 epochs' cannot be read"),
        ("2 epoch s", None, "save_freq='2 epoch s' cannot be read"),
        ("2 epocs", None, "no unit. Did you mean 'epoch"),
        ("0 min", None, "save_freq='0 min' is no positive number of seconds"),
        ("1.5 epochs", None, "save_freq='1.5 epochs' is no positive number of epochs"),
        ("epoch", 0, "period=0 is no positive whole number"),
        ("epoch", True, "period=True is no positive whole number"),
        (100, 2, "both period=2 and save_freq=100 are set"),
    ],
)
def test_a_frequency_that_makes_no_sense_is_refused(
    save_freq: int | str, period: int | None, said: str
) -> None:
    """What was written is named, and the fix shows what may be."""
    with pytest.raises(SettingError) as caught:
        read_frequency(save_freq, period, who="saver")
    assert said in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("amount", "unit", "due"),
    [(1, "epochs", [1, 2, 3, 4, 5]), (2, "epochs", [2, 4]), (9, "epochs", []), (1, "batches", [])],
)
def test_epochs_are_counted(amount: int, unit: str, due: list[int]) -> None:
    """Every so many epochs it is time; a trigger of batches never fires after an epoch."""
    trigger = started(amount, unit)
    assert [epoch for epoch in range(1, 6) if trigger.epoch_is_due()] == due


@pytest.mark.parametrize(
    ("amount", "seen", "due"),
    [
        (3, [[0, 1, 2, 3], [0, 1, 2, 3]], [(0, 2), (1, 1)]),
        (4, [[0, 1], [0, 1], [0]], [(1, 1)]),
        (6, [[3, 7, 11, 15]], [(0, 7), (0, 15)]),
        (8, [[3], [7], [7]], [(1, 7), (2, 7)]),
        (2, [[0, 0, 1, 2]], [(0, 1)]),
    ],
    ids=["over epochs", "short epochs", "windows of 4", "each epoch begins anew", "once more"],
)
def test_batches_are_counted_over_epochs(
    amount: int, seen: list[list[int]], due: list[tuple[int, int]]
) -> None:
    """A window of accumulated gradients counts with all its batches."""
    trigger = started(amount, "batches")
    found = []
    for epoch, batches in enumerate(seen):
        found += [(epoch, batch) for batch in batches if trigger.batch_is_due(batch, step=0)]
        trigger.epoch_is_due()
    assert found == due


def test_a_run_that_goes_on_inside_an_epoch_counts_from_there() -> None:
    """The batches before it were counted by the run that it continues."""
    trigger = Trigger(3, "batches", Clock())
    trigger.start(step=10, batch=10)
    assert [batch for batch in range(10, 20) if trigger.batch_is_due(batch, step=0)] == [12, 15, 18]


def test_steps_are_those_of_the_optimizer() -> None:
    """A step that was skipped does not count."""
    trigger = started(2, "steps")
    steps = [1, 2, 2, 3, 4, 4, 5]
    found = [trigger.batch_is_due(batch, step) for batch, step in enumerate(steps)]
    assert found == [False, True, False, False, True, False, False]


def test_time_is_measured_from_the_last_time_it_was_due() -> None:
    """It is time once the seconds are over, then not until they are over again."""
    clock = Clock()
    trigger = started(60, "seconds", clock)
    found = []
    for clock.now in (110.0, 160.0, 170.0, 219.9, 220.0):
        found.append(trigger.batch_is_due(0, 0))
    assert found == [False, True, False, False, True]


@pytest.mark.parametrize("unit", ["epochs", "batches", "steps", "seconds"])
def test_a_restored_trigger_goes_on_counting(unit: str) -> None:
    """Half of the way before a restart and half after it make one whole."""
    clock = Clock()
    first = started(2, unit, clock)
    clock.now = 101.0
    assert not first.epoch_is_due()
    assert not first.batch_is_due(0, step=1)
    saved = first.state_dict()
    later = Clock()
    later.now = 5000.0
    second = started(2, unit, later)
    second.load_state_dict(saved)
    later.now = 5001.0
    assert second.epoch_is_due() if unit == "epochs" else second.batch_is_due(1, step=2)


def test_a_long_list_of_numbers_is_copied_in_one_go() -> None:
    """A save does not look at each number of a long history by itself."""

    def calls(length: int) -> int:
        made = 0

        def count(frame: object, event: str, about: object) -> None:
            nonlocal made
            made += event == "call"

        rows = {"loss": [0.5] * length, "epoch": list(range(length))}
        snapshot = Snapshot(own=True)
        sys.setprofile(count)
        try:
            copied = snapshot.copy(rows)
        finally:
            sys.setprofile(None)
        assert copied == rows
        assert copied["loss"] is not rows["loss"]
        return made

    assert calls(10_000) == calls(10)
