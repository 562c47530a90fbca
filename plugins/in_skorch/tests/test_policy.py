"""What follows an exception of a callback, hook by hook, in skorch."""

from __future__ import annotations

from typing import Any

import agreement
import policy
import pytest
import torch
from hookloop_in_skorch import HookloopCallback
from skorch import NeuralNetRegressor
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import Tensor


def fit(callbacks: list[Any]) -> Tensor:
    net = NeuralNetRegressor(
        agreement.model,
        max_epochs=2,
        batch_size=agreement.BATCH,
        lr=agreement.RATE,
        optimizer=torch.optim.SGD,
        train_split=predefined_split(Dataset(*policy.arrays("validation"))),
        callbacks=[HookloopCallback(callbacks)],
        verbose=0,
    )
    net.fit(*policy.arrays("training"))
    return policy.vector(net.module_)


TABLE = policy.Table(fit)


@pytest.mark.reliability("E1", "E2", "E3", "E8")
@pytest.mark.parametrize("hook", policy.hooks("skorch"))
@pytest.mark.parametrize("role", policy.ROLES)
def test_the_policy_holds_in_every_hook(hook: str, role: str) -> None:
    """One that observes is turned off and changes nothing; one that decides ends the run."""
    TABLE.check(hook, role)
