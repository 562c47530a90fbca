"""What follows an exception of a callback, hook by hook, in Ignite."""

from __future__ import annotations

from typing import Any

import agreement
import hookloop_in_ignite
import policy
import pytest
import torch
from ignite.engine import create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Loss
from torch import Tensor, nn


def fit(callbacks: list[Any]) -> Tensor:
    model, loss_fn = agreement.model(), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=agreement.RATE)
    trainer = create_supervised_trainer(model, optimizer, loss_fn)
    evaluator = create_supervised_evaluator(model, {"loss": Loss(loss_fn)})
    hookloop_in_ignite.attach(
        trainer,
        callbacks,
        model=model,
        optimizer=optimizer,
        evaluator=evaluator,
        run_validation=lambda: evaluator.run(policy.batches("validation")),
        loss_fn=loss_fn,
    )
    trainer.run(policy.batches("training"), max_epochs=2)
    return policy.vector(model)


TABLE = policy.Table(fit)


@pytest.mark.reliability("E1", "E2", "E3", "E8")
@pytest.mark.parametrize("hook", policy.hooks("Ignite"))
@pytest.mark.parametrize("role", policy.ROLES)
def test_the_policy_holds_in_every_hook(hook: str, role: str) -> None:
    """One that observes is turned off and changes nothing; one that decides ends the run."""
    TABLE.check(hook, role)
