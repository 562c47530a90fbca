"""Runs of unusual models, optimizers and callbacks go on as if nothing had happened."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import differences
from torch import nn

from hookloop import Callback, Trainer
from hookloop.checkpoints import load_state, save_state
from hookloop.errors import StateError

DATA = (torch.linspace(-1, 1, 48).reshape(8, 6), torch.arange(8) % 2)


class Saves(Callback):
    """Saves the state after the second batch of an epoch: the second one, if none is named."""

    def __init__(self, path: Path, epoch: int = 1) -> None:
        self.path, self.epoch = path, epoch

    def on_batch_checkpoint(self, batch: int) -> None:
        if (self.loop.epoch, batch) == (self.epoch, 1):
            save_state(self.path, self.loop.state_dict())


class Switches(Callback):
    """Freezes a layer, and has another one evaluate, once and for all: it has no state."""

    def on_train_batch_end(self, batch: int) -> None:
        if (self.loop.epoch, batch) == (1, 0):
            self.model[0].requires_grad_(False)
            self.model[1].eval()


class Unfreezes(Callback):
    """Has the optimizer train a layer more, once and for all."""

    def on_train_batch_end(self, batch: int) -> None:
        if (self.loop.epoch, batch) == (1, 0):
            [optimizer] = self.loop.optimizers
            named = [*self.model[0].requires_grad_(True).named_parameters()]
            if "param_names" not in optimizer.param_groups[0]:
                named = [one for _, one in named]
            optimizer.add_param_group({"params": named, "lr": 0.02})


class UnfreezesGradually(Callback):
    """Has the optimizer train a layer more when each epoch begins, that which goes on included."""

    def __init__(self, *layers: int) -> None:
        self.layers = layers

    def on_epoch_begin(self, epoch: int) -> None:
        if epoch:
            layer = self.model[self.layers[epoch - 1]].requires_grad_(True)
            group = {"params": layer.parameters(), "nesterov": True, "name": f"of {epoch}"}
            self.loop.optimizers[0].add_param_group(group)


class Complex(nn.Module):
    """Has a weight of the one type of torch's that safetensors lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 2, dtype=torch.complex128))

    def forward(self, x: Any) -> Any:
        return (x.to(torch.complex128) @ self.weight).abs().float()


class Forgetful(nn.Module):
    """Has buffers that are not persistent: constant, changed in place, replaced, and made late."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)
        made = {
            "mask": torch.ones(6),
            "sum": torch.zeros(6),
            "count": torch.zeros(()),
            "late": None,
        }
        for name, value in made.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, x: Any) -> Any:
        self.sum += x.mean(0)
        self.count = self.count + 1
        self.late = torch.ones(6) if self.late is None else self.late
        return self.layer((x + self.sum / self.count) * self.mask * self.late)


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


def frozen() -> nn.Module:
    model = plain()
    model[0].requires_grad_(False)
    return model


def adam_of_trained(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam([one for one in parameters if one.requires_grad], lr=0.1)


def sgd_of_trained(parameters: Any) -> torch.optim.Optimizer:
    trained = [one for one in parameters if one.requires_grad]
    return torch.optim.SGD([{"params": trained, "name": "head"}], lr=0.1, momentum=0.9)


def named_adam_of_trained(parameters: Any) -> torch.optim.Optimizer:
    named = ((f"p{i}", one) for i, one in enumerate(parameters) if one.requires_grad)
    return torch.optim.Adam(named, lr=0.1)


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
    "unfrozen in the middle": (frozen, adam_of_trained, [Unfreezes]),
    "unfrozen in the middle, by name": (frozen, named_adam_of_trained, [Unfreezes]),
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


@pytest.mark.reliability("A1")
def test_a_group_that_was_added_before_two_restarts_is_added_again(tmp_path: Path) -> None:
    """With its settings, its parameters and what the optimizer holds of them."""
    whole = train(frozen, adam_of_trained, Unfreezes(), Saves(tmp_path / "one"))
    saves = Saves(tmp_path / "two", epoch=2)
    train(frozen, adam_of_trained, Unfreezes(), saves, resume=tmp_path / "one")
    again = train(frozen, adam_of_trained, Unfreezes(), resume=tmp_path / "two")
    assert load_state(tmp_path / "two")["loop"]["added_groups"] == [[["0.weight", "0.bias"]]]
    one, other = (run.optimizer.state_dict() for run in (whole, again))
    assert one["param_groups"] == other["param_groups"]
    assert [group["lr"] for group in one["param_groups"]] == [0.1, 0.02]
    assert differences(one["state"], other["state"]) == []
    assert differences(whole.model.state_dict(), again.model.state_dict()) == []


@pytest.mark.reliability("A1")
@pytest.mark.parametrize("epoch", [1, 2])
def test_groups_that_are_added_as_epochs_begin_are_there_once_and_in_order(
    epoch: int, tmp_path: Path
) -> None:
    """In the epoch that goes on the callback adds one again, and the others are missing."""

    def unfreezes() -> Callback:
        return UnfreezesGradually(0, 1)

    def model() -> nn.Module:
        made = frozen()
        made[1].requires_grad_(False)
        return made

    whole = train(model, sgd_of_trained, unfreezes(), Saves(tmp_path / "state", epoch=epoch))
    again = train(model, sgd_of_trained, unfreezes(), resume=tmp_path / "state")
    one, other = (run.optimizer.state_dict() for run in (whole, again))
    assert [group["name"] for group in one["param_groups"]] == ["head", "of 1", "of 2"]
    assert one["param_groups"] == other["param_groups"]
    assert differences(one["state"], other["state"]) == []
    assert differences(whole.model.state_dict(), again.model.state_dict()) == []


def test_another_group_than_in_the_run_that_was_saved_is_refused(tmp_path: Path) -> None:
    """Though it is as large, it would get what the optimizer held of other parameters."""

    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2))

    def of_head(parameters: Any) -> torch.optim.Optimizer:
        *_, weight, bias = parameters
        return torch.optim.SGD([weight, bias], lr=0.1, momentum=0.9)

    train(model, of_head, UnfreezesGradually(0, 1), Saves(tmp_path / "state"))
    with pytest.raises(StateError, match=r"\['1.weight', '1.bias'\]\] added .*'0.weight'"):
        train(model, of_head, UnfreezesGradually(1, 0), resume=tmp_path / "state")


def test_a_group_of_parameters_that_this_model_lacks_is_refused(tmp_path: Path) -> None:
    """Nobody knows which were meant; the optimizer stays as it is."""
    train(frozen, adam_of_trained, Unfreezes(), Saves(tmp_path / "state"))
    state = load_state(tmp_path / "state")
    state["loop"]["added_groups"] = [[["0.weight", "?"]]]
    save_state(tmp_path / "other", state)
    trainer = Trainer(frozen(), loss="cross_entropy", optimizer=adam_of_trained, device="cpu")
    with pytest.raises(StateError, match=r"groups \[\[4, 2\]\], this run of \[\[4\]\]"):
        trainer.fit(DATA, batch_size=2, epochs=3, verbose=0, resume=tmp_path / "other")
    assert len(trainer.optimizer.param_groups) == 1


def test_buffers_that_change_but_are_in_no_state_are_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not those that stay as they are, nor a table that is made late."""
    train(Forgetful, "adam", Saves(tmp_path / "one"), Saves(tmp_path / "two", epoch=2))
    out = capsys.readouterr().out
    assert out.count("Buffers that are not persistent change in training") == 1
    assert "in no saved state: sum, count. A run that goes on begins with those of a new" in out


def test_layers_that_are_frozen_from_the_beginning_stay_what_the_new_run_makes_them(
    tmp_path: Path,
) -> None:
    """Only what was switched during the run is put back: a user may have frozen more since."""

    def frozen_later() -> nn.Module:
        model = plain()
        model.requires_grad_(False)[2].requires_grad_(True)
        return model

    train(plain, "adam", Saves(tmp_path / "state"))
    state = load_state(tmp_path / "state")
    assert state["loop"]["switched"] == {"requires_grad": {}, "training": {}}
    again = train(frozen_later, "adam", resume=tmp_path / "state")
    assert [one.requires_grad for one in again.model.parameters()] == [False] * 4 + [True] * 2


@pytest.mark.reliability("H4")
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("optimizers", 0, "state", 0, "step"), torch.tensor(1 + 2j)),
        (("rng", "now", "cuda"), torch.zeros(0)),
        (("loop", "added_groups"), [1]),
        (("loop", "added_groups"), [[[1]]]),
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
