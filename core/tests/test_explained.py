"""Errors of the model and of the loss: where in the run, and of what shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hookloop import Trainer

X, Y = torch.ones(4, 2), torch.ones(4, 1)


class Late(nn.Module):
    """Fails when it has been called so many times."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.layer, self.left = nn.Linear(2, 1), calls

    def forward(self, x):
        self.left -= 1
        if self.left < 0:
            raise ValueError("no more")
        return self.layer(x)


def fails(outputs, targets):
    raise ValueError("no loss")


def trainer_of(calls=0, loss="mse") -> Trainer:
    return Trainer(Late(calls), loss=loss, optimizer="sgd", device="cpu")


CASES = {
    "training": (
        lambda: trainer_of(3).fit((X, Y), batch_size=2, epochs=2, verbose=0),
        "raised in the forward pass of training (epoch 1, batch 1); inputs: float32 (2, 2)",
    ),
    "validation": (
        lambda: trainer_of(1).fit((X, Y), validation_data=(X, Y), verbose=0),
        "raised in the forward pass of validation (epoch 0, batch 0); inputs: float32 (4, 2)",
    ),
    "evaluation": (
        lambda: trainer_of(1).evaluate((X, Y), batch_size=2, verbose=0),
        "raised in the forward pass of evaluation (batch 1); inputs: float32 (2, 2)",
    ),
    "prediction": (
        lambda: trainer_of().predict(X, verbose=0),
        "raised in the forward pass of prediction (batch 0); inputs: float32 (4, 2)",
    ),
    "without callbacks": (
        lambda: trainer_of().measure((X, Y)),
        "raised in the forward pass of evaluation; inputs: float32 (4, 2)",
    ),
    "loss": (
        lambda: trainer_of(1, fails).fit((X, Y.long()), verbose=0),
        "raised in the loss of training (epoch 0, batch 0); outputs: float32 (4, 1); "
        "targets: int64 (4, 1)",
    ),
    "structures": (
        lambda: trainer_of().evaluate([({"x": X, "more": (X, 3)}, Y[:, 0])], verbose=0),
        "raised in the forward pass of evaluation (batch 0); "
        "inputs: {x: float32 (4, 2), more: [float32 (4, 2), int]}",
    ),
    "bf16": (
        lambda: Trainer(Late(0), loss="mse", optimizer="sgd", device="cpu", precision="bf16").fit(
            (X, Y), verbose=0
        ),
        "raised in the forward pass of training (epoch 0, batch 0); inputs: float32 (4, 2)",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_error_of_the_model_or_loss_tells_where_and_of_what_shapes(case):
    """A note below the error itself, which keeps its type and text; never a value of the data."""
    act, note = CASES[case]
    with pytest.raises((ValueError, TypeError)) as failed:
        act()
    assert failed.value.__notes__ == [note]
