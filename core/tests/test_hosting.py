"""Hosting: what every bridge is built from."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hookloop import Callback, Logs
from hookloop.capabilities import HOSTS
from hookloop.hosting import Bridge, BridgeLoop, Run


class ForeignLoop(BridgeLoop):
    """A loop that makes every step it has begun."""

    host = "skorch"
    features = HOSTS[host]


def begin(callback: Any) -> tuple[Run, torch.optim.Optimizer]:
    model = torch.nn.Linear(1, 1)
    # Momentum would move the weights without any gradient, too.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    run = Bridge([callback]).begin(ForeignLoop, model=model, optimizers=[optimizer])
    run.act(run.driver.epoch_begin, 0)
    return run, optimizer


def step(run: Run, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    run.loop.model(torch.ones(1, 1)).sum().backward()
    run.fire_before_step(optimizer, Logs())
    optimizer.step()


@pytest.mark.parametrize("stops", [False, True])
def test_a_stop_before_the_step_leaves_the_step_without_effect(stops: bool) -> None:
    """The weights stay as they are, and it is not counted; a step before it has its effect."""
    weights = []

    class Stops(Callback):
        def on_before_optimizer_step(self) -> None:
            weights.append(self.model.weight.clone())
            if stops and len(weights) == 2:
                self.loop.stop("enough")

    run, optimizer = begin(Stops())
    step(run, optimizer)
    step(run, optimizer)

    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(run.loop.model.weight, weights[1]) == stops
    assert run.loop.step == (1 if stops else 2)


def test_a_callback_that_fails_before_the_step_ends_the_run() -> None:
    """With its note, once."""

    class Fails(Callback):
        def on_before_optimizer_step(self) -> None:
            raise ValueError("oh no")

    run, optimizer = begin(Fails())
    with pytest.raises(ValueError, match="oh no") as raised:
        step(run, optimizer)

    assert "'fails' in on_before_optimizer_step (epoch 0)" in raised.value.__notes__[0]
    assert run.over
    assert run.loop.outcome == "failed"
