"""Runs of unusual models, optimizers and callbacks go on as if nothing had happened."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hookloop import Callback, Trainer
from hookloop.checkpoints import load_state, save_state
from hookloop.errors import StateError

DATA = (torch.linspace(-1, 1, 48).reshape(8, 6), torch.arange(8) % 2)


class Saves(Callback):
    """Saves the state after the second batch of the second epoch, in which something happens."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_batch_checkpoint(self, batch: int) -> None:
        if (self.loop.epoch, batch) == (1, 1):
            save_state(self.path, self.loop.state_dict())


class Switches(Callback):
    """Freezes a layer, and has another one evaluate, once and for all: it has no state."""

    def on_train_batch_end(self, batch: int) -> None:
        if (self.loop.epoch, batch) == (1, 0):
            self.model[0].requires_grad_(False)
            self.model[1].eval()


class Complex(nn.Module):
    """Has a weight of the one type of torch's that safetensors lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 2, dtype=torch.complex128))

    def forward(self, x: Any) -> Any:
        return (x.to(torch.complex128) @ self.weight).abs().float()


class Uneven(torch.optim.SGD):
    """Keeps something of matrices alone, as optimizers of mixed kinds do."""

    __module__ = "somebody"

    def step(self, closure: Any = None) -> Any:
        for parameter in self.param_groups[0]["params"]:
            held = self.state[parameter]
            if parameter.ndim == 2:
                held["rows"] = held.get("rows", 0) + parameter.grad.mean(1)
                parameter.grad += held["rows"].unsqueeze(1)
            else:
                held["sum"] = held.get("sum", 0) + parameter.grad.sum()
        return super().step(closure)


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(2))


def train(model: Callable[[], nn.Module], optimizer: Any, *callbacks: Any, **more: Any) -> Any:
    torch.manual_seed(0)
    trainer = Trainer(model(), loss="cross_entropy", optimizer=optimizer, seed=1, device="cpu")
    trainer.fit(DATA, batch_size=2, epochs=3, callbacks=list(callbacks), verbose=0, **more)
    return trainer


KINDS: dict[str, tuple[Callable[[], nn.Module], Any, list[type[Callback]]]] = {
    "lazy": (lazy, "adam:lr=0.1,fused=false", []),
    "complex128": (Complex, "sgd:lr=0.1,momentum=0.9", []),
    "Adafactor": (plain, torch.optim.Adafactor, []),
    "somebody's optimizer": (plain, lambda parameters: Uneven(parameters, lr=0.1), []),
    "frozen in the middle": (plain, "adam:lr=0.1", [Switches]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.reliability("A1")
def test_an_unusual_run_goes_on_exactly(kind: str, tmp_path: Path) -> None:
    """It ends with the weights and the optimizer's state of a run that was left alone."""
    model, optimizer, callbacks = KINDS[kind]
    whole = train(model, optimizer, *(one() for one in callbacks), Saves(tmp_path / "state"))
    again = train(model, optimizer, *(one() for one in callbacks), resume=tmp_path / "state")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    for now, then in zip(*(one.optimizer.state_dict()["state"].values() for one in (whole, again)),
                         strict=True):  # fmt: skip
        assert now.keys() == then.keys()
        assert all(torch.equal(torch.as_tensor(now[key]), torch.as_tensor(then[key])) for key in now
                   if now[key] is not None)  # fmt: skip


def test_layers_that_are_frozen_from_the_beginning_stay_what_the_new_run_makes_them(
    tmp_path: Path,
) -> None:
    """Only what was switched during the run is put back: a user may have frozen more since."""

    def frozen() -> nn.Module:
        model = plain()
        model.requires_grad_(False)[2].requires_grad_(True)
        return model

    train(plain, "adam", Saves(tmp_path / "state"))
    state = load_state(tmp_path / "state")
    assert state["loop"]["switched"] == {"requires_grad": {}, "training": {}}
    again = train(frozen, "adam", resume=tmp_path / "state")
    assert [one.requires_grad for one in again.model.parameters()] == [False] * 4 + [True] * 2


@pytest.mark.reliability("H4")
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("optimizers", 0, "state", 0, "step"), torch.tensor(1 + 2j)),
        (("rng", "now", "cuda"), torch.zeros(0)),
        (("loop", "switched"), [1]),
        (("loop", "switched"), {"training": {"0": "no"}}),
    ],
)
def test_a_state_with_a_value_of_another_kind_is_refused(
    place: tuple[Any, ...], value: Any, tmp_path: Path
) -> None:
    """With an error of hookloop's, before anything is changed."""
    train(plain, "adam", Saves(tmp_path / "state"))
    state = copy.deepcopy(load_state(tmp_path / "state"))
    inner: Any = state
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    save_state(tmp_path / "edited.pt", state)
    with pytest.raises(StateError, match="cannot be used"):
        train(plain, "adam", resume=tmp_path / "edited.pt")
