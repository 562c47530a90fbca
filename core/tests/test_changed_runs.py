"""A run that goes on with something changed: refused where it would be spoilt, told where not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import hookloop
from hookloop import Callback, Trainer, hookimpl
from hookloop.checkpoints import load_state, save_state
from hookloop.errors import StateError

X = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
Y = (X.sum(1) > 0).long()
INSIDE = "The state is of the middle of an epoch of other data: "
SAME_DATA = "\nfix: pass the data and batch size of that run"


class Saver(Callback):
    """Keeps the state of the second batch, and that of the first epoch."""

    needs = ("state",)

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    @hookimpl(trylast=True)
    def on_batch_checkpoint(self, batch: int) -> None:
        if self.folder is not None and self.loop.epoch == 0 and batch == 1:
            save_state(self.folder / "inside.pt", self.loop.state_dict())

    @hookimpl(trylast=True)
    def on_epoch_checkpoint(self, epoch: int) -> None:
        if self.folder is not None and epoch == 0:
            save_state(self.folder / "between.pt", self.loop.state_dict())


class Warms(Callback):
    """Has a setting, decides, and keeps no state."""

    def __init__(self, steps: int = 3) -> None:
        self.steps = steps

    def on_train_batch_end(self) -> None:
        pass


def loader(**settings: Any) -> Any:
    return DataLoader(TensorDataset(X, Y), 5, shuffle=True, **settings)


def adam(kind: Any = torch.optim.Adam, *, turned: bool = False, **settings: Any) -> Any:
    def make(parameters: Any) -> Any:
        return kind(list(parameters)[:: -1 if turned else 1], lr=0.02, **settings)

    return make


def run(
    folder: Path | None = None,
    *,
    dropout: float = 0.3,
    data: Any = None,
    trainer: dict[str, Any] | None = None,
    callbacks: Any = (),
    **fit: Any,
) -> Trainer:
    """Train for two epochs, with what a test changes."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(dropout), nn.Linear(3, 2))
    about = {"loss": "cross_entropy", "optimizer": adam(), "seed": 4, "device": "cpu"}
    made = Trainer(model, **{**about, **(trainer or {})})
    given = data if data is not None else (X, Y)
    arrays = isinstance(given, tuple)
    defaults = {"epochs": 2, "verbose": 0, **({"batch_size": 5} if arrays else {})}
    made.fit(given, callbacks=[Saver(folder), *callbacks], **{**defaults, **fit})
    return made


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """States of runs in which nothing is changed yet, each made once."""
    made: dict[str, Path] = {}

    def state(where: str, **as_it_was: Any) -> Path:
        key = repr(sorted(as_it_was))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("states")
            run(made[key], **as_it_was)
        return made[key] / f"{where}.pt"

    return state


#: What is changed, and what is said of it: in the middle of an epoch, and between two.
TOLD: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"trainer": {"seed": 7}}, "seed 4 then, 7 now (the state's is used)"),
    "loss": (
        {"trainer": {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}},
        "loss cross_entropy then, CrossEntropyLoss(reduction=mean, ignore_index=-100, "
        "label_smoothing=0.1) now",
    ),
    "metrics": ({"trainer": {"metrics": ["acc"]}}, "metrics none then, given now"),
    "accumulate": ({"trainer": {"accumulate": 2}}, "accumulate 1 then, 2 now"),
    "precision": ({"trainer": {"precision": "bf16"}}, "precision none then, bf16 now"),
    "module": (
        {"dropout": 0.5},
        "module: 1 Dropout(p=0.3, inplace=False) then, Dropout(p=0.5, inplace=False) now",
    ),
    "rate": (
        {"trainer": {"optimizer": lambda parameters: torch.optim.Adam(parameters, lr=0.5)}},
        "of the optimizer, where the state's are used: lr 0.02 then, 0.5 now",
    ),
    "betas": (
        {"trainer": {"optimizer": adam(betas=(0.8, 0.9))}},
        "of the optimizer, where the state's are used: betas [0.9, 0.999] then, [0.8, 0.9] now",
    ),
    "validation": ({"validation_data": (X, Y)}, "validation data none then, given now"),
    "validation_freq": ({"validation_freq": 2}, "validation_freq 1 then, 2 now"),
}


@pytest.mark.reliability("G7")
@pytest.mark.parametrize("where", ["inside", "between"])
@pytest.mark.parametrize(("change", "text"), TOLD.values(), ids=TOLD)
def test_what_does_not_spoil_the_run_is_told_in_one_line(
    states: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    text: str,
    where: str,
) -> None:
    """The run goes on, and whoever changed it by accident sees it."""
    path = states(where)
    capsys.readouterr()
    run(resume=path, **change)
    assert capsys.readouterr().out == f"Changed since the state was saved: {text}.\n"


DATA: dict[str, tuple[dict[str, Any], str]] = {
    "batch size": ({"batch_size": 6}, "batch size 5 then, 6 now"),
    "length": (
        {"data": (X[:18], Y[:18])},
        "samples 20 then, 18 now",
    ),
    "batches": ({"steps_per_epoch": 3}, "batches 4 then, 3 now"),
    "shuffle": ({"shuffle": False}, "order of the data shuffled then, as it is now"),
    "kind": (
        {"data": loader()},
        "order of the data shuffled then, RandomSampler now; loader workers none then, 0 now "
        "(random numbers that the data draw may be others)",
    ),
}


@pytest.mark.reliability("G7", "G9")
@pytest.mark.parametrize(("change", "text"), DATA.values(), ids=DATA)
def test_other_data_are_told_between_epochs_and_refused_inside(
    states: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    text: str,
) -> None:
    """Inside, samples would be used twice or not at all, though the batches are as many."""
    between, inside = states("between"), states("inside")
    capsys.readouterr()
    run(resume=between, **change)
    assert capsys.readouterr().out == f"Changed since the state was saved: {text}.\n"
    with pytest.raises(StateError) as refused:
        run(resume=inside, **change)
    assert str(refused.value) == f"{INSIDE}{text.partition('; loader')[0]}.{SAME_DATA}"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "class with the same settings": (
        {"trainer": {"optimizer": adam(torch.optim.AdamW, weight_decay=0)}},
        "The state is of the optimizer Adam; this run has AdamW.\nfix: use the same class",
    ),
    "order of the parameters": (
        {"trainer": {"optimizer": adam(turned=True)}},
        "An optimizer's group had the parameters 0.weight, 0.bias, 2.weight, 2.bias; now 2.bias, "
        "2.weight, 0.bias, 0.weight.\nfix: give it the parameters in the same order",
    ),
}


@pytest.mark.reliability("G7")
@pytest.mark.parametrize("where", ["inside", "between"])
@pytest.mark.parametrize(("change", "text"), REFUSED.values(), ids=REFUSED)
def test_what_would_spoil_the_run_is_refused_anywhere(
    states: Callable[..., Path], change: dict[str, Any], text: str, where: str
) -> None:
    """torch itself would take the state of one optimizer for that of another."""
    with pytest.raises(StateError) as refused:
        run(resume=states(where), **change)
    assert str(refused.value) == text


@pytest.mark.reliability("G7")
def test_all_that_is_wrong_is_said_at_once(states: Callable[..., Path]) -> None:
    """A list, with what to do about each: nobody mends one thing to be told of the next."""
    optimizer = adam(torch.optim.AdamW)
    with pytest.raises(StateError) as refused:
        run(resume=states("inside"), trainer={"optimizer": optimizer}, batch_size=6, shuffle=False)
    assert str(refused.value) == (
        "The state differs from this run in 2 ways:\n"
        "- The state is of the optimizer Adam; this run has AdamW.\n"
        f"- {INSIDE}batch size 5 then, 6 now; order of the data shuffled then, as it is now."
        "\nfix: use the same class; pass the data and batch size of that run"
    )


@pytest.mark.parametrize("where", ["inside", "between"])
def test_a_run_without_a_seed_of_its_own_has_nothing_to_say_of_the_state_s(
    states: Callable[..., Path], capsys: pytest.CaptureFixture[str], where: str
) -> None:
    """seed=None asks for none, and the order goes on."""
    path = states(where)
    capsys.readouterr()
    run(resume=path, trainer={"seed": None})
    assert capsys.readouterr().out == ""


def test_settings_of_callbacks_without_a_state_are_told(
    states: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """With a state they are refused; without one there is nothing to spoil."""
    path = states("between", callbacks=[Warms()])
    capsys.readouterr()
    run(resume=path, callbacks=[Warms(steps=9)])
    text = "callback warms: steps=3 then, steps=9 now"
    assert capsys.readouterr().out == f"Changed since the state was saved: {text}.\n"


def accuracy(**settings: Any) -> dict[str, Any]:
    return {"m": torchmetrics.classification.MulticlassAccuracy(2, **settings)}


def test_a_metric_object_of_another_class_is_refused_inside_and_told_between(
    states: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """What one has gathered is nothing to another; at the start of an epoch nothing is gathered."""
    was = {"trainer": {"metrics": accuracy(average="micro")}}
    now = {"trainer": {"metrics": {"m": torchmetrics.classification.MulticlassRecall(2)}}}
    between, inside = states("between", **was), states("inside", **was)
    capsys.readouterr()
    run(resume=between, **now)
    assert capsys.readouterr().out == (
        "Changed since the state was saved: metrics: m MulticlassAccuracy then, MulticlassRecall "
        "now.\n"
    )
    with pytest.raises(StateError) as refused:
        run(resume=inside, **now)
    assert str(refused.value) == (
        "The state has what the metric objects m (MulticlassAccuracy) gathered; this run has m "
        "(MulticlassRecall).\nfix: pass the metric objects of that run"
    )


# -- loops written by hand -----------------------------------------------------------------


def by_hand(
    folder: Path | None = None,
    *,
    data: Any = None,
    kind: Any = None,
    rate: float = 0.02,
    **given: Any,
) -> None:
    """Two epochs of a loop with a scheduler."""
    torch.manual_seed(2)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    make = kind or (lambda one: torch.optim.lr_scheduler.StepLR(one, 1, 0.5))
    scheduler, batches = make(optimizer), data if data is not None else loader()
    saver = Saver(folder)
    with hookloop.attach(
        model, optimizer, callbacks=[saver], epochs=2, stateful=scheduler, **given
    ) as loop:
        for _ in loop.epochs():
            for x, y in loop.batches(batches):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                loop.log(loss=loss)
            scheduler.step()


@pytest.fixture(scope="module")
def saved_by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attached")
    by_hand(folder)
    return folder


@pytest.mark.reliability("G7")
def test_a_loop_by_hand_tells_what_was_changed(
    saved_by_hand: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The optimizer and the scheduler when the run starts, the data when they are first read."""
    smaller = DataLoader(TensorDataset(X, Y), 4, shuffle=True)
    gentle: Any = lambda one: torch.optim.lr_scheduler.StepLR(one, 1, 0.9)  # noqa: E731
    by_hand(resume=saved_by_hand / "between.pt", data=smaller, rate=0.5, kind=gentle)
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "Changed since the state was saved: schedulers: 0: gamma 0.5 then, 0.9 now; of the "
        "optimizer, where the state's are used: lr 0.02 then, 0.5 now."
    )
    assert second == (
        "Changed since the state was saved: batch size 5 then, 4 now; batches 4 then, 5 now."
    )


@pytest.mark.reliability("G7")
def test_a_loop_by_hand_refuses_what_would_spoil_it(saved_by_hand: Path) -> None:
    """Another scheduler before anything happens; other data where they are read."""
    other: Any = lambda one: torch.optim.lr_scheduler.ExponentialLR(one, 0.9)  # noqa: E731
    with pytest.raises(StateError) as refused:
        by_hand(resume=saved_by_hand / "between.pt", kind=other)
    assert str(refused.value) == (
        "The objects of stateful= were StepLR; now ExponentialLR."
        "\nfix: pass the same ones, in the same order"
    )
    unshuffled = DataLoader(TensorDataset(X, Y), 5)
    with pytest.raises(StateError) as refused:
        by_hand(resume=saved_by_hand / "inside.pt", data=unshuffled)
    assert str(refused.value) == (
        f"{INSIDE}order of the data RandomSampler then, SequentialSampler now.{SAME_DATA}"
    )


def test_a_state_of_another_kind_of_loop_is_refused(
    saved_by_hand: Path, states: Callable[..., Path]
) -> None:
    """What one host knows of its data another one does not read."""
    model, optimizer = nn.Linear(4, 2), adam()
    path = saved_by_hand / "between.pt"
    with pytest.raises(StateError) as refused:
        Trainer(model, loss="cross_entropy", optimizer=optimizer, device="cpu").fit(
            (X, Y), resume=path, verbose=0
        )
    assert "The state was saved in attach; this is Trainer." in str(refused.value)


def test_a_state_that_does_not_say_what_its_run_was_made_of_can_be_used(
    states: Callable[..., Path], tmp_path: Path
) -> None:
    """As of an earlier hookloop: compared is what it has."""
    saved = load_state(states("between"))
    del saved["loop"]["config"]
    save_state(tmp_path / "old.pt", saved)
    assert run(resume=tmp_path / "old.pt").history.epoch == [0, 1]  # type: ignore[union-attr]
