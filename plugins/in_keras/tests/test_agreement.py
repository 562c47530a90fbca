"""The one training in which every host has to agree, in Keras: each kind of model."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import agreement
import keras
import pytest
import torch
from hookloop_in_keras import HookloopCallback

from hookloop.checkpoints import load_checkpoint

# Of Keras itself, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = keras.layers.Dense(16, activation="tanh")
        self.last = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.last(self.hidden(x))


def sequential() -> keras.Model:
    layers = [keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(1)]
    return keras.Sequential([keras.layers.Input((agreement.INPUTS,)), *layers])


def functional() -> keras.Model:
    inputs = keras.layers.Input((agreement.INPUTS,))
    hidden = keras.layers.Dense(16, activation="tanh")(inputs)
    return keras.Model(inputs, keras.layers.Dense(1)(hidden))


def filled(model: keras.Model) -> keras.Model:
    """Give a Keras model the weights of `agreement.model`; its kernels are transposed."""
    model(torch.zeros(1, agreement.INPUTS))  # builds it
    parameters = [p.detach() for p in agreement.model().parameters()]
    model.set_weights([(p.T if p.ndim == 2 else p).numpy() for p in parameters])
    return model


def vector(weights: list[Any]) -> torch.Tensor:
    """Put Keras's weights in the order of torch's parameters."""
    tensors = [torch.as_tensor(one) for one in weights]
    return torch.cat([(t.T if t.ndim == 2 else t).reshape(-1) for t in tensors])


@pytest.mark.parametrize("kind", [sequential, functional, Subclassed])
def test_keras_trains_and_decides_as_a_loop_by_hand(kind: Any, tmp_path: Path) -> None:
    """Every hook, loss, rate, row, reason and weight agrees.

    The tolerance: a Dense layer multiplies and adds in two operations, and Keras's means are of
    float32; both differ from torch's in the last bits, which ten epochs carry on.
    """
    (tmp_path / "hand").mkdir()
    reference = agreement.by_hand(tmp_path / "hand")
    chosen, recording = agreement.callbacks(tmp_path)
    model = filled(kind())
    model.compile(optimizer=keras.optimizers.SGD(agreement.RATE), loss="mse")
    x, y = agreement.arrays("training")
    model.fit(
        x.numpy(),
        y.numpy(),
        batch_size=agreement.BATCH,
        epochs=agreement.EPOCHS,
        validation_data=tuple(one.numpy() for one in agreement.arrays("validation")),
        shuffle=False,
        verbose=0,
        callbacks=[HookloopCallback(chosen)],
    )
    found = recording.found
    with (tmp_path / "log.csv").open(newline="") as file:
        found.table = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    found.weights = vector(model.get_weights())
    model.load_state_dict(load_checkpoint(tmp_path / "best.weights.pt"))
    found.best = vector(model.get_weights())
    agreement.check(found, reference, "Keras", tolerance=2e-6)
