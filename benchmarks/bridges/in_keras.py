"""A step of Keras on torch, alone or with the bridge."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import keras
import torch
from hookloop_in_keras import HookloopCallback

WARM_UP = 20


class Clock:
    """Gives ready-made batches, and notes when the first one after the warm-up is asked for."""

    def __init__(self, steps: int) -> None:
        self.steps, self.started = steps, 0.0
        self._batch = (torch.randn(32, 16), torch.randn(32, 1))

    def __iter__(self) -> Iterator[Any]:
        for step in range(WARM_UP + self.steps):
            if step == WARM_UP:
                self.started = time.perf_counter()
            yield self._batch


def step_seconds(callbacks: list[Any] | None, steps: int) -> float:
    """Train for some steps and give the seconds of one.

    Args:
        callbacks: Of the bridge; None for no bridge at all.
        steps: How many, in one epoch.
    """
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input((16,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer="adam", loss="mse")
    clock = Clock(steps)
    bridge = [] if callbacks is None else [HookloopCallback(callbacks)]
    total = WARM_UP + steps
    model.fit(iter(clock), steps_per_epoch=total, verbose=0, shuffle=False, callbacks=bridge)
    return (time.perf_counter() - clock.started) / steps
