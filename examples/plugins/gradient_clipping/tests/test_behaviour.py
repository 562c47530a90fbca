"""GradientClipping: what it does to gradients, compared with what the formulas say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hookloop import CallbackList, Trainer, load
from hookloop.errors import CapabilityError, SettingError
from torch import Tensor


def clipped(gradients: list[float], **settings: Any) -> tuple[list[float], dict[str, float]]:
    """Give the gradients of a weight each, as the optimizer finds them, and what was reported."""
    model = torch.nn.ParameterList([torch.tensor([0.0]) for _ in gradients])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    callbacks = CallbackList(
        [load("gradient_clipping", **settings)], model=model, optimizer=optimizer
    )
    callbacks.on_train_begin()
    callbacks.on_train_batch_begin(0)
    for weight, gradient in zip(model, gradients, strict=True):
        weight.grad = torch.tensor([gradient])
    callbacks.on_before_optimizer_step(optimizer)
    found = [weight.grad.item() for weight in model]
    logs: dict[str, float] = {}
    callbacks.on_train_batch_end(0, logs)
    callbacks.on_train_end()
    return found, logs


@pytest.mark.parametrize(
    ("settings", "expected", "norm"),
    [
        pytest.param({"limit": 10.0}, [3.0, -4.0], 5.0, id="within the norm"),
        pytest.param({"limit": 1.0}, [0.6, -0.8], 5.0, id="scaled to the norm"),
        pytest.param(
            {"limit": 2.0, "norm_type": math.inf}, [1.5, -2.0], 4.0, id="scaled to the largest"
        ),
        pytest.param({"limit": 3.5, "by": "value"}, [3.0, -3.5], 5.0, id="by value"),
    ],
)
def test_gradients_are_kept_within_the_limit(
    settings: dict[str, Any], expected: list[float], norm: float
) -> None:
    """Of (3, -4), whose norm is 5; what is reported is the norm before."""
    found, logs = clipped([3.0, -4.0], **settings)

    assert found == pytest.approx(expected, rel=1e-4)
    assert float(logs["gradient_norm"]) == pytest.approx(norm)


@pytest.mark.parametrize("by", ["norm", "value"])
def test_the_norm_need_not_be_reported(by: str) -> None:
    """Then the logs stay as they are."""
    assert clipped([3.0, -4.0], by=by, log=False)[1] == {}


def test_a_model_without_gradients_is_left_alone() -> None:
    """As one whose weights are all frozen."""
    model = torch.nn.Linear(1, 1).requires_grad_(False)
    callbacks = CallbackList(["gradient_clipping"], model=model)
    callbacks.on_train_begin()
    callbacks.on_train_batch_begin(0)
    callbacks.on_before_optimizer_step(None)
    callbacks.on_train_batch_end(0)
    callbacks.on_train_end()

    assert model.weight.grad is None


def test_training_steps_by_the_clipped_gradients() -> None:
    """A step of plain SGD is as long as the learning rate times the limit, whatever the loss."""
    trainer = Trainer(torch.nn.Linear(1, 1, bias=False), loss="mse", optimizer="sgd:lr=0.5", seed=0)
    before = trainer.module.weight.item()
    x = torch.ones(4, 1)
    trainer.fit((x, 1000 * x), callbacks=["gradient_clipping:limit=0.25"], verbose=0)

    assert trainer.module.weight.item() - before == pytest.approx(0.5 * 0.25, rel=1e-4)


def test_with_accumulation_a_window_is_clipped_once() -> None:
    """The limit is that of the whole window, not of each of its parts."""
    model = torch.nn.Linear(1, 1, bias=False)
    trainer = Trainer(model, loss="mse", optimizer="sgd:lr=0.5", accumulate=2, seed=0)
    before = trainer.module.weight.item()
    x = torch.ones(4, 1)
    trainer.fit((x, 1000 * x), batch_size=2, callbacks=["gradient_clipping:limit=0.25"], verbose=0)

    assert trainer.module.weight.item() - before == pytest.approx(0.5 * 0.25, rel=1e-4)


def test_the_norm_is_not_read_in_a_batch() -> None:
    """What is reported is a tensor, so that no step waits for a GPU."""
    callback = load("gradient_clipping")
    callback.model = torch.nn.Linear(1, 1)
    callback.model(torch.ones(4, 1)).sum().backward()
    logs: dict[str, Any] = {}
    callback.on_before_optimizer_step(logs)

    assert type(logs["gradient_norm"]) is Tensor


def test_a_loop_without_a_model_is_refused() -> None:
    """Before training, as there is nothing to clip."""
    callbacks = CallbackList(["gradient_clipping"], model=None)
    with pytest.raises(CapabilityError, match="fix: pass model="):
        callbacks.on_train_begin()


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"limit": 0.0}, "limit=1.0"),
        ({"limit": math.nan}, "limit=1.0"),
        ({"norm_type": -1.0}, "norm_type=1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], fix: str) -> None:
    """Before any training, with what to write instead."""
    with pytest.raises(SettingError, match=f"fix: {fix}"):
        load("gradient_clipping", **settings)


def test_a_way_that_is_not_offered_is_refused() -> None:
    """There are two."""
    with pytest.raises(SettingError, match="by="):
        load("gradient_clipping", by="mood")
