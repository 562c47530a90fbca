"""When to stop, decided without a loop: tables of values, settings and what follows."""

from __future__ import annotations

import math

import pytest
from hookloop_early_stopping._patience import Patience

from hookloop import Monitor

NAN, INF = math.nan, math.inf


def stops_after(
    values: list[float],
    *,
    patience: int = 0,
    mode: str = "min",
    min_delta: float = 0.0,
    baseline: float | None = None,
) -> int | None:
    """Tell after which epoch, from 0, a sequence of values is stopped; None if it is not."""
    monitor = Monitor("loss", mode=mode, min_delta=min_delta)
    monitor.start()
    count = Patience()
    for epoch, value in enumerate(values):
        _, stop = count.step(monitor, epoch, value, patience=patience, baseline=baseline)
        if stop:
            return epoch
    return None


@pytest.mark.parametrize(
    ("values", "settings", "epoch"),
    [
        ([3, 2, 1, 0.5], {"patience": 1}, None),
        ([1, 2, 3, 4, 5], {"patience": 1}, 1),
        ([1, 2, 3, 4, 5], {"patience": 3}, 3),
        ([1, 2, 0.5, 2, 3], {"patience": 2}, 4),
        ([1, 0.9, 2], {"patience": 0}, 2),
        ([1, 1, 1], {"patience": 2}, 2),
        ([0.1, 0.2, 0.1], {"patience": 1, "mode": "max"}, 2),
        ([-3, -2, -1, -2], {"patience": 1, "mode": "max"}, 3),
        ([1, 0.95, 0.91, 0.89], {"patience": 2, "min_delta": 0.1}, 2),
        ([1, 0.95, 0.85], {"patience": 2, "min_delta": -0.1}, None),
        ([NAN, NAN, NAN], {"patience": 2}, 1),
        ([NAN, 1, 0.5, NAN, NAN], {"patience": 2}, 4),
        ([INF, 1, 2], {"patience": 1}, 2),
    ],
    ids=[
        "improving",
        "first bad epoch",
        "third bad epoch",
        "an improvement resets",
        "patience 0 is as 1",
        "equal is no improvement",
        "max",
        "negative values",
        "min_delta",
        "its sign is ignored",
        "only NaN",
        "NaN never is the best",
        "infinity never is the best",
    ],
)
def test_training_stops_after_so_many_epochs_without_improvement(values, settings, epoch):
    """Patience N stops at the N-th monitored epoch without improvement, never at the first."""
    assert stops_after(values, **settings) == epoch


@pytest.mark.parametrize(
    ("values", "settings", "epoch"),
    [
        ([1.0, 0.9, 0.8, 0.7], {"patience": 2, "baseline": 0.5}, 1),
        ([1.0, 0.9, 0.8, 0.7], {"patience": 4, "baseline": 0.75}, None),
        ([1.0, 0.4, 0.5, 0.6], {"patience": 2, "baseline": 0.5}, 3),
        ([0.4, 0.45, 0.45], {"patience": 2, "baseline": 0.5}, 2),
    ],
    ids=["never beaten", "beaten in time", "beaten, then patience", "beaten at once"],
)
def test_a_baseline_has_to_be_beaten_within_patience(values, settings, epoch):
    """Improving below the baseline does not save a run, as it does in Keras."""
    assert stops_after(values, **settings) == epoch


def test_the_best_epoch_is_that_of_the_best_value():
    """Also where the value does not beat the baseline."""
    monitor = Monitor("loss", mode="min")
    monitor.start()
    count = Patience()
    for epoch, value in enumerate([3.0, 1.0, 2.0]):
        count.step(monitor, epoch, value, patience=5, baseline=0.1)
    assert (count.best_epoch, monitor.best, count.wait) == (1, 1.0, 3)


def test_the_best_epoch_is_the_first_where_nothing_is_better():
    """Its weights are what there is to restore; the first monitored one need not be epoch 0."""
    monitor = Monitor("loss", mode="min")
    monitor.start()
    count = Patience()
    for epoch, value in enumerate([float("nan"), float("nan")], start=3):
        count.step(monitor, epoch, value, patience=5, baseline=None)
    assert (count.best_epoch, monitor.best, count.wait) == (3, None, 2)
