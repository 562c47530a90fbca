"""What going on from a saved state needs to be exact is said when the run starts, not found out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import hookloop
from hookloop import Callback, Trainer
from hookloop.loaders import condition_of

X, Y = torch.zeros(6, 2), torch.zeros(6, 1)
START = "A run that goes on from a saved state inside an epoch will be exact if "
AGAIN = "the same ones come again, with no random numbers drawn in turn with the model."
IN_TURN = "no random numbers are drawn in turn with the model."


class Saves(Callback):
    """Is there to save the state of the run, at any time."""

    def on_batch_checkpoint(self) -> None:
        pass


class SavesWeights(Saves):
    """Says, as model_checkpoint does, that nobody can go on from what it saves."""

    save_weights_only = True


class Stream:
    """Batches of which nothing is known."""

    def __iter__(self) -> Iterator[Any]:
        return iter([(X, Y), (X, Y)])


class Lines(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([(X[0], Y[0])] * 4)


class Sampler:
    """Somebody's own."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(6))

    def __len__(self) -> int:
        return 6


def loader(**settings: Any) -> Any:
    return DataLoader(TensorDataset(X, Y), 3, **settings)


def fit(data: Any, *callbacks: Any, **options: Any) -> None:
    trainer = Trainer(nn.Linear(2, 1), loss="mse", optimizer="sgd", device="cpu")
    trainer.fit(data, callbacks=list(callbacks), verbose=0, **options)


CASES: dict[str, tuple[Any, str | None]] = {
    "arrays": (lambda: (X, Y), None),
    "list": (lambda: [(X, Y)], None),
    "loader": (loader, None),
    "workers": (lambda: loader(num_workers=1), None),
    "iterable": (Stream, AGAIN),
    "iterable dataset": (lambda: DataLoader(Lines(), 2), AGAIN),
    "own sampler": (lambda: loader(sampler=Sampler()), IN_TURN),
    "iterator": (
        lambda: iter([(X, Y), (X, Y)]),
        "the iterator begins afresh, and gives the same batches again.",
    ),
}


@pytest.mark.reliability("A6")
@pytest.mark.parametrize(("data", "condition"), CASES.values(), ids=CASES)
def test_a_condition_is_said_once_when_a_run_starts_whose_state_is_saved(
    data: Any, condition: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line; none for what is exact whatever the data do."""
    fit(data(), Saves())
    assert capsys.readouterr().out == (f"{START}{condition}\n" if condition else "")


def test_persistent_workers_have_a_condition_of_their_own() -> None:
    """Their random numbers are out of reach. (Asked alone: ending such workers takes seconds.)"""
    assert condition_of(loader(num_workers=1, persistent_workers=True)) == (
        "no random numbers are drawn in the persistent workers, which are not put back"
    )


@pytest.mark.parametrize("callbacks", [[], [SavesWeights()]], ids=["no saver", "weights alone"])
def test_nothing_is_said_where_nobody_can_go_on(
    callbacks: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a state there is nothing to be exact."""
    fit(Stream(), *callbacks)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("callbacks", "lines"), [([], 0), ([Saves()], 1)], ids=["no saver", "saver"]
)
def test_a_loop_by_hand_says_it_when_it_first_reads_the_data(
    callbacks: list[Any], lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once for all epochs: before, it does not know them."""
    model = nn.Linear(2, 1)
    optimizer, data = torch.optim.SGD(model.parameters(), lr=0.1), Stream()
    with hookloop.attach(model, optimizer, callbacks=callbacks, epochs=3) as loop:
        for _ in loop.epochs():
            for x, _y in loop.batches(data):
                model(x).sum().backward()
                optimizer.step()
    assert capsys.readouterr().out == f"{START}{AGAIN}\n" * lines


def _attached(*callbacks: Any, scheduler: bool = False, second: bool = False, **given: Any) -> None:
    """Begin and end a run of a loop written by hand, with what is left out of its state."""
    models = [nn.Linear(2, 1), nn.Linear(2, 1)]
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1) for one in models[: 1 + second]]
    if scheduler:
        torch.optim.lr_scheduler.StepLR(optimizers[0], 1)
    stateful = [models[1]] if given.pop("held", False) else []
    with hookloop.attach(models[0], optimizers, callbacks=callbacks, epochs=1, stateful=stateful):
        pass


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ""),
        ({"second": True}, "2 of the 4 parameters that are trained are not saved: they are in no"),
        ({"second": True, "held": True}, ""),
        ({"scheduler": True}, "A scheduler of the learning rate is not saved, and begins anew"),
    ],
    ids=["all is there", "another model", "another model, given", "a scheduler"],
)
def test_what_a_loop_by_hand_leaves_out_of_its_state_is_said_when_it_starts(
    capsys: pytest.CaptureFixture[str], given: dict[str, Any], said: str
) -> None:
    """With the fix, and only if somebody saves the state."""
    _attached(**given)
    assert capsys.readouterr().out == ""
    _attached(Saves(), **given)
    out = capsys.readouterr().out
    assert out.startswith(said)
    assert ("\nfix: stateful=" in out) is bool(said)


def test_a_scheduler_that_a_callback_holds_is_not_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is saved with the callback."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    holder = Saves()
    holder.scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)  # type: ignore[attr-defined]
    with hookloop.attach(model, optimizer, callbacks=[holder], epochs=1):
        pass
    assert capsys.readouterr().out == ""
