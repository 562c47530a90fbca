"""The step of skorch on the tiny model, with a bridge or without.

Run as `.venv-in_skorch/bin/python benchmarks/bridges skorch`.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn

WARM_UP = 50


class Clock(Callback):
    """Takes the time when the warm-up is over, and at the last batch."""

    def initialize(self) -> Clock:
        self.count_ = 0
        return self

    def on_batch_end(self, net: Any, **_: Any) -> None:
        self.count_ += 1
        if self.count_ == WARM_UP:
            self.begin_ = time.perf_counter()
        self.end_ = time.perf_counter()


class Ready:
    """Yields one ready-made batch again and again."""

    def __init__(self, dataset: Any, steps: int = 1, **_: Any) -> None:
        self.batch, self.steps = dataset.batch, steps

    def __iter__(self) -> Any:
        return (self.batch for _ in range(self.steps))


class One(torch.utils.data.Dataset[Any]):
    """One batch of 32."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batch = (
            torch.randn(32, 16, generator=generator),
            torch.randn(32, 1, generator=generator),
        )

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> Any:
        return self.batch[0][index], self.batch[1][index]


class Tiny(nn.Sequential):
    """Linear 16-32, ReLU, Linear 32-1."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))


def step_seconds(callbacks: list[Any] | None, steps: int) -> float:
    """Measure seconds a step in one epoch, after a warm-up.

    Args:
        callbacks: Those of hookloop; None for skorch without the bridge.
        steps: Steps that count.
    """
    bridge = []
    if callbacks is not None:
        from hookloop_in_skorch import HookloopCallback

        bridge = [HookloopCallback(callbacks)]
    clock = Clock()
    net = NeuralNet(
        Tiny,
        nn.MSELoss,
        optimizer=torch.optim.Adam,
        max_epochs=1,
        iterator_train=Ready,
        iterator_train__steps=steps + WARM_UP,
        train_split=None,
        callbacks=[*bridge, clock],
        callbacks__print_log=None,
        verbose=0,
    )
    net.fit(One())
    return (clock.end_ - clock.begin_) / steps
