"""When the rate is lowered: literal sequences, and torch's own scheduler beside ours."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from hookloop_reduce_lr_on_plateau import ReduceLROnPlateau

from hookloop import CallbackList

NAN = math.nan


def decisions(values: list[float], settings: dict[str, Any], start: float = 1.0) -> list[float]:
    """Give the rate in force after each epoch, for a sequence of values of the metric.

    A pure function of its arguments, so that results of another implementation can be compared.
    """
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=start)
    monitor = settings.get("monitor", "val_loss")
    callbacks = CallbackList([ReduceLROnPlateau(**settings)], model=None, optimizer=optimizer)
    callbacks.on_train_begin()
    rates = []
    for epoch, value in enumerate(values):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_epoch_end(epoch, {monitor: value})
        rates.append(optimizer.param_groups[0]["lr"])
    callbacks.on_train_end()
    return rates


def decisions_of_torch(values: list[float], settings: dict[str, Any]) -> list[float]:
    """Do the same with torch's scheduler, which waits one bad epoch longer."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode=settings["mode"],
        factor=settings["factor"],
        patience=max(settings["patience"], 1) - 1,
        threshold=settings["min_delta"],
        threshold_mode="abs",
        cooldown=settings["cooldown"],
        min_lr=settings["min_lr"],
        eps=0.0,
    )
    rates = []
    for value in values:
        scheduler.step(value)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize(
    ("values", "settings", "expected"),
    [
        pytest.param([5, 4, 3], {"patience": 1}, [1, 1, 1], id="improving"),
        pytest.param([5, 5, 5], {"patience": 2}, [1, 1, 0.5], id="patience-2"),
        pytest.param([5, 5, 5], {"patience": 1}, [1, 0.5, 0.25], id="patience-1"),
        pytest.param([5, 5, 5], {"patience": 0}, [1, 0.5, 0.25], id="patience-0-is-1"),
        pytest.param([5] * 5, {"patience": 1, "cooldown": 1}, [1, 0.5, 0.5, 0.25, 0.25],
                     id="cooldown-1-has-an-effect"),
        pytest.param([5] * 6, {"patience": 1, "cooldown": 2}, [1, 0.5, 0.5, 0.5, 0.25, 0.25],
                     id="cooldown-2-waits-2"),
        pytest.param([5, 5, 5, 5], {"patience": 1, "min_lr": 0.4}, [1, 0.5, 0.4, 0.4], id="floor"),
        pytest.param([NAN, 5, 4], {"patience": 2}, [1, 1, 1], id="nan-first-poisons-nothing"),
        pytest.param([5, NAN, NAN], {"patience": 2}, [1, 1, 0.5], id="nan-is-no-improvement"),
        pytest.param([5, 4.95], {"patience": 1, "min_delta": 0.1}, [1, 0.5], id="min-delta"),
        pytest.param([5, 4.95], {"patience": 1, "min_delta": -0.1}, [1, 0.5], id="sign-ignored"),
        pytest.param([1, 2, 2], {"patience": 1, "mode": "max"}, [1, 1, 0.5], id="max"),
        pytest.param([-1, -2, -2], {"patience": 1}, [1, 1, 0.5], id="negative-values"),
    ],
)  # fmt: skip
def test_rate_after_each_epoch(
    values: list[float], settings: dict[str, Any], expected: list[float]
) -> None:
    """The rate falls with the patience-th bad epoch outside of a cooldown, down to min_lr."""
    assert decisions(values, {"factor": 0.5, **settings}) == expected


@pytest.mark.parametrize("seed", range(60))
def test_cooldown_counts_as_in_torch(seed: int) -> None:
    """Over random sequences and settings the rate is that of torch's own scheduler."""
    chance = random.Random(seed)
    settings = {
        "mode": chance.choice(["min", "max"]),
        "factor": chance.choice([0.1, 0.5, 0.9]),
        "patience": chance.randrange(4),
        "min_delta": chance.choice([0.0, 1e-4, 0.3]),
        "cooldown": chance.randrange(4),
        "min_lr": chance.choice([0.0, 0.2]),
    }
    values = [chance.choice([chance.gauss(0, 1), 0.25, NAN]) for _ in range(60)]

    assert decisions(values, settings) == decisions_of_torch(values, settings)


def test_a_rate_in_single_precision_reaches_the_floor() -> None:
    """A rate that is a tensor, and so stands beside min_lr by a rounding error, is at it."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=torch.tensor(0.2))
    lines: list[str] = []
    callbacks = CallbackList(
        [
            ReduceLROnPlateau("loss", factor=0.5, patience=1, min_lr=0.1, verbose=1),
            _Lines(lines),
        ],
        model=None,
        optimizer=optimizer,
    )
    callbacks.on_train_begin()
    for epoch in range(4):
        callbacks.on_epoch_end(epoch, {"loss": 1.0})

    assert lines == [
        "Epoch 2: ReduceLROnPlateau reducing learning rate to 0.1.",
        "Epoch 3: ReduceLROnPlateau learning rate stays at 0.1, its lowest.",
    ]


class _Lines:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def on_message(self, text: str) -> bool:
        self.lines.append(text)
        return True
