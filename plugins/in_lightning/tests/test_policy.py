"""What follows an exception of a callback, hook by hook, in Lightning."""

from __future__ import annotations

from typing import Any

import policy
import pytest
from lightning_runs import Regression, trainer
from torch import Tensor


def fit(callbacks: list[Any]) -> Tensor:
    module = Regression()
    made = trainer(callbacks, max_epochs=2, num_sanity_val_steps=0)
    made.fit(module, policy.batches("training"), policy.batches("validation"))
    return policy.vector(module)


TABLE = policy.Table(fit)


@pytest.mark.reliability("E1", "E2", "E3", "E8")
@pytest.mark.parametrize("hook", policy.hooks("Lightning"))
@pytest.mark.parametrize("role", policy.ROLES)
def test_the_policy_holds_in_every_hook(hook: str, role: str) -> None:
    """One that observes is turned off and changes nothing; one that decides ends the run."""
    TABLE.check(hook, role)
