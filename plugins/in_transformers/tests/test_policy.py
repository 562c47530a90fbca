"""What follows an exception of a callback, hook by hook, in a Trainer."""

from __future__ import annotations

from typing import Any

import policy
import pytest
from torch import Tensor


@pytest.fixture(scope="module")
def table() -> policy.Table:
    return policy.Table(lambda callbacks: Tensor())


@pytest.mark.reliability("E1", "E2", "E3", "E8")
@pytest.mark.parametrize("hook", policy.hooks("transformers"))
@pytest.mark.parametrize("role", policy.ROLES)
def test_the_policy_holds_in_every_hook(
    make: Any, table: policy.Table, hook: str, role: str
) -> None:
    """One that observes is turned off and changes nothing; one that decides ends the run."""

    def train(callbacks: list[Any]) -> Tensor:
        data, tests = (
            [{"x": x, "labels": y} for x, y in zip(*policy.arrays(split), strict=True)]
            for split in ("training", "validation")
        )
        settings = {"num_train_epochs": 2, "eval_strategy": "epoch"}
        trainer = make.trainer(callbacks, train=data, tests=tests, **settings)
        trainer.train()
        return policy.vector(trainer.model)

    table.train = train
    table.check(hook, role)
