"""What follows an exception of a callback, hook by hook, in Keras."""

from __future__ import annotations

from typing import Any

import keras
import policy
import pytest
import torch
from hookloop_in_keras import HookloopCallback
from torch import Tensor

# Of Keras itself, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def fit(callbacks: list[Any]) -> Tensor:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    x, y = (one.numpy() for one in policy.arrays("training"))
    validation = tuple(one.numpy() for one in policy.arrays("validation"))
    about = {"validation_data": validation, "shuffle": False, "verbose": 0}
    model.fit(x, y, batch_size=16, epochs=2, callbacks=[HookloopCallback(callbacks)], **about)
    return torch.cat([torch.as_tensor(one).reshape(-1) for one in model.get_weights()])


TABLE = policy.Table(fit)


@pytest.mark.reliability("E1", "E2", "E3", "E8")
@pytest.mark.parametrize("hook", policy.hooks("Keras"))
@pytest.mark.parametrize("role", policy.ROLES)
def test_the_policy_holds_in_every_hook(hook: str, role: str) -> None:
    """One that observes is turned off and changes nothing; one that decides ends the run."""
    TABLE.check(hook, role)
