"""A rate that a callback sets is the one in force, whatever scheduler the Trainer runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR, StepLR

STEPS = 30  # three epochs of ten
SCHEDULES: dict[str, tuple[dict[str, Any], Callable[[int], float]]] = {
    "constant": ({}, lambda step: 1.0),
    "constant_with_warmup": ({"warmup_steps": 5}, lambda step: min(1.0, step / 5)),
    "linear": ({}, lambda step: (STEPS - step) / STEPS),
    "cosine": ({}, lambda step: 0.5 * (1 + math.cos(math.pi * step / STEPS))),
    "polynomial": ({}, lambda step: (STEPS - step) / STEPS * (1 - 1e-6) + 1e-6),
}


def rates(make: Any, **settings: Any) -> list[float]:
    """Train while a callback halves the rate inside each epoch; give that of each step."""
    found: list[float] = []

    def halve(loop: Any) -> None:
        if loop.batch == 4:
            loop.set_lr(loop.lr / 2)

    noting = make.Doing(
        "on_before_optimizer_step", lambda loop: found.append(loop.optimizer.param_groups[0]["lr"])
    )
    make.trainer(
        [make.Doing("on_train_batch_end", halve, name="halve"), noting], **settings
    ).train()
    return found


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_rate_composes_with_the_schedules_of_the_trainer(make: Any, kind: str) -> None:
    """All of them are LambdaLR, which computes from its base rates and would undo any change."""
    settings, factor = SCHEDULES[kind]
    wanted = [0.1 * factor(step) * 0.5 ** ((step + 5) // 10) for step in range(STEPS)]

    found = rates(make, lr_scheduler_type=kind, **settings)

    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-7)


GIVEN: dict[str, Callable[[SGD], LRScheduler]] = {
    "StepLR": lambda optimizer: StepLR(optimizer, 7, 0.3),
    "ConstantLR": lambda optimizer: ConstantLR(optimizer, 0.5, 8),
    "OneCycleLR": lambda optimizer: OneCycleLR(optimizer, 0.2, total_steps=STEPS + 1),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_a_rate_composes_with_a_scheduler_of_torch(make: Any, kind: str) -> None:
    """One that was passed in optimizers=: each rate is the scheduler's times all that was set."""
    twin = SGD(make.Net().parameters(), 0.1)
    alone, factors = GIVEN[kind](twin), []
    for _ in range(STEPS):
        factors.append(twin.param_groups[0]["lr"])
        twin.step()
        alone.step()
    model = make.Net()
    optimizer = SGD(model.parameters(), 0.1)

    found = rates(make, model=model, about={"optimizers": (optimizer, GIVEN[kind](optimizer))})

    wanted = [rate * 0.5 ** ((step + 5) // 10) for step, rate in enumerate(factors)]
    assert found == pytest.approx(wanted)


def test_a_rate_reaches_the_trainers_plateau(make: Any) -> None:
    """ReduceLROnPlateau goes on from the rate in force."""
    found = rates(
        make,
        lr_scheduler_type="reduce_lr_on_plateau",
        eval_strategy="epoch",
        metric_for_best_model="loss",
        greater_is_better=False,
    )

    assert found == pytest.approx([0.1 * 0.5 ** ((step + 5) // 10) for step in range(STEPS)])
