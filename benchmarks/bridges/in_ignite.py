"""The step of Ignite on the tiny model, with a bridge or without.

Run as `.venv-in_ignite/bin/python benchmarks/bridges ignite`.
"""

from __future__ import annotations

import time
from typing import Any

import hookloop_in_ignite
import torch
from ignite.engine import Engine, Events, create_supervised_trainer
from torch import nn

WARM_UP = 50


def step_seconds(callbacks: list[Any] | None, steps: int) -> float:
    """Measure seconds a step in one epoch, after a warm-up.

    Args:
        callbacks: Those of hookloop; None for Ignite without the bridge.
        steps: Steps that count.
    """
    generator = torch.Generator().manual_seed(0)
    batch = (torch.randn(32, 16, generator=generator), torch.randn(32, 1, generator=generator))
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer, loss_fn = torch.optim.Adam(model.parameters()), nn.MSELoss()
    trainer = create_supervised_trainer(model, optimizer, loss_fn)
    if callbacks is not None:
        hookloop_in_ignite.attach(trainer, callbacks, model=model, optimizer=optimizer)
    moments = []

    def tick(engine: Engine) -> None:
        moments.append(time.perf_counter())

    ticks = Events.ITERATION_COMPLETED(event_filter=lambda _, i: i in (WARM_UP, WARM_UP + steps))
    trainer.add_event_handler(ticks, tick)
    trainer.run([batch] * (WARM_UP + steps), max_epochs=1)
    return (moments[1] - moments[0]) / steps
