"""Callback: what one is given, its inert hooks, and the settings it was made with."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hookloop import Callback, CallbackList, Trainer, hookspecs
from hookloop.callback import settings_of


def test_every_hook_exists_and_does_nothing() -> None:
    """Under both spellings, with the documentation of its specification."""
    callback = Callback()
    for name in (*hookspecs.names(), *hookspecs.SPELLINGS):
        assert getattr(callback, name)(1, 2, three=3) is None
        assert getattr(Callback, name).__doc__


def test_setters_are_called_before_the_first_hook() -> None:
    """Loop, params, then model; all can be overridden."""
    calls: list[Any] = []

    class Sets(Callback):
        def set_loop(self, loop: Any) -> None:
            super().set_loop(loop)
            calls.append("loop")

        def set_params(self, params: Any) -> None:
            calls.append(params["epochs"])

        def set_model(self, model: Any) -> None:
            calls.append(model)

        def on_train_begin(self) -> None:
            calls.append("begin")

    model = nn.Linear(1, 1)
    CallbackList(Sets(), model=model, params={"epochs": 7}).on_train_begin()
    assert calls == ["loop", 7, model, "begin"]


def test_what_a_callback_finds() -> None:
    """Also one whose ``__init__`` never calls ``super().__init__()``."""

    class Own(Callback):
        def __init__(self) -> None:
            self.mine = 1

    own, model = Own(), nn.Linear(1, 1)
    hooks = CallbackList(own, model=model, params={"epochs": 3}, validation_data="data")
    hooks.on_train_begin()
    assert (own.loop, own.model, own.validation_data) == (hooks.loop, model, "data")
    assert own.params == {
        "epochs": 3,
        "steps": None,
        "batch_size": None,
        "samples": None,
        "verbose": None,
        "metrics": None,
        "do_validation": None,
    }


class Made(Callback):
    def __init__(self, path: Any, *, rate: float = 0.5) -> None:
        self.path = path


@dataclass(eq=True)
class Data(Callback):
    patience: int = 3


@pytest.mark.parametrize(
    ("callback", "settings"),
    [
        (Callback(), {}),
        (Made("x"), {"path": "x", "rate": 0.5}),
        (Made(Path("x"), rate=1), {"path": "x", "rate": 1}),
        (Made((1, [2])), {"path": [1, [2]], "rate": 0.5}),
        (Made({1: "a"}), {"path": {"1": "a"}, "rate": 0.5}),
        (Made(max), {"path": "<builtins.max>", "rate": 0.5}),
        (Made(torch.zeros(1)), {"path": "<torch.Tensor>", "rate": 0.5}),
        (Data(5), {"patience": 5}),
        (object(), {}),
    ],
    ids="base text path nested mapping function object dataclass foreign".split(),
)
def test_settings_are_kept_as_plain_data(callback: Any, settings: dict[str, Any]) -> None:
    """Defaults included, for saved state; without a word in the subclass."""
    assert settings_of(callback) == settings


def test_arguments_that_a_constructor_does_not_take_are_a_plain_type_error() -> None:
    """Python's own sentence."""

    class Bare(Callback): ...

    with pytest.raises(TypeError, match=r"Bare\(\) takes no arguments"):
        Bare(patience=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'patiance'"):
        Data(patiance=3)  # type: ignore[call-arg]


def test_a_callback_can_be_pickled() -> None:
    """For workers that are spawned."""
    copy = pickle.loads(pickle.dumps(Data(5)))
    assert (copy.patience, settings_of(copy)) == (5, {"patience": 5})


def test_a_callback_can_be_pickled_and_copied_after_a_run() -> None:
    """What the run gave it stays behind; what it remembers goes along."""
    model = torch.nn.Linear(1, 1)
    x = torch.zeros(4, 1)
    history = Trainer(model, loss="mse", optimizer="sgd").fit((x, x), verbose=0)
    for twin in (pickle.loads(pickle.dumps(history)), copy.deepcopy(history)):
        assert twin.history == history.history
        assert (twin.loop, twin.model) == (None, None)
