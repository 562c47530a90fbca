"""The curves that tensorboard writes are those of the history, value for value."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hookloop_tensorboard import TensorBoard

from hookloop import Callback, CallbackList, Trainer

BATCHES, EPOCHS = 3, 4


class Recorder(Callback):
    """Remembers what every batch reported."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.losses.append(logs["loss"])


def make_trainer(**options: Any) -> Trainer:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(), torch.nn.Linear(4, 1))
    return Trainer(model, loss="mse", optimizer="sgd:lr=0.1", metrics=["mae"], seed=1, **options)


def fit(trainer: Trainer, *callbacks: Any, **options: Any) -> Any:
    x = torch.linspace(-1, 1, 36).reshape(12, 3)
    options = {"epochs": EPOCHS, "validation_split": 0.25, "batch_size": 3, **options}
    return trainer.fit((x, x.sum(1, keepdim=True)), callbacks=callbacks, verbose=0, **options)


def float32(values: list[float]) -> list[float]:
    """What is left of numbers in an event file."""
    return [float(np.float32(value)) for value in values]


def steps_and(values: list[float], first: int = 0) -> list[tuple[int, float]]:
    return list(enumerate(float32(values), first))


def test_epoch_curves_are_the_history(tmp_path: Path, curve: Any) -> None:
    """Train and validation are two runs with the same tags, over the index of the epoch."""
    history = fit(make_trainer(), TensorBoard(tmp_path)).history

    for key in ("loss", "mae"):
        assert curve(tmp_path / "train", f"epoch_{key}") == steps_and(history[key])
        assert curve(tmp_path / "validation", f"epoch_{key}") == steps_and(history[f"val_{key}"])


def test_evaluations_are_drawn_over_optimizer_steps(tmp_path: Path, curve: Any) -> None:
    """With accumulation there are fewer of them than batches."""
    history = fit(make_trainer(accumulate=3), TensorBoard(tmp_path)).history

    found = curve(tmp_path / "validation", "evaluation_loss_vs_iterations")
    assert found == list(zip([1, 2, 3, 4], float32(history["val_loss"]), strict=True))


@pytest.mark.parametrize(
    ("update_freq", "steps"),
    [("batch", range(1, 13)), (1, range(1, 13)), (5, (5, 10))],
    ids=["batch", "1", "5"],
)
def test_batches_are_drawn_as_often_as_asked(
    tmp_path: Path, curve: Any, update_freq: Any, steps: Any
) -> None:
    """A number counts batches, over the ends of epochs; a value is that of its batch alone."""
    recorder = Recorder()
    fit(make_trainer(), recorder, TensorBoard(tmp_path, update_freq=update_freq))

    wanted = [(step, *float32([recorder.losses[step - 1]])) for step in steps]
    assert curve(tmp_path / "train", "batch_loss") == wanted


def test_by_default_no_batch_is_drawn(tmp_path: Path, read: Any) -> None:
    """update_freq="epoch" draws epochs only, the size of a batch never."""
    fit(make_trainer(), TensorBoard(tmp_path))

    assert sorted(read(tmp_path / "train").Tags()["scalars"]) == [
        "epoch_learning_rate",
        "epoch_loss",
        "epoch_mae",
    ]


def test_the_learning_rate_is_that_of_the_epoch(tmp_path: Path, curve: Any, read: Any) -> None:
    """Where another callback lowers it after the epoch, its own log tells what was in force.

    It is drawn under one tag, not under its logged name too.
    """

    class Lowers(Callback):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            logs["lr"] = self.loop.lr
            if epoch > 0:
                self.loop.set_lr(self.loop.lr * 0.1)

    fit(make_trainer(), Lowers(), TensorBoard(tmp_path))

    found = curve(tmp_path / "train", "epoch_learning_rate")
    assert found == steps_and([0.1, 0.1, 0.01, 0.001])
    assert "epoch_lr" not in read(tmp_path / "train").Tags()["scalars"]


def test_steps_per_second_are_written_where_asked(tmp_path: Path, curve: Any) -> None:
    """For the epoch, and for as many batches as update_freq says."""
    board = TensorBoard(tmp_path, write_steps_per_second=True, update_freq=2)
    fit(make_trainer(), board)

    epochs = curve(tmp_path / "train", "epoch_steps_per_second")
    batches = curve(tmp_path / "train", "batch_steps_per_second")
    assert [step for step, _ in epochs] == [0, 1, 2, 3]
    assert [step for step, _ in batches] == [2, 4, 6, 8, 10, 12]
    assert all(value > 0 for _, value in epochs + batches)


def test_a_second_fit_goes_on_where_the_first_ended(tmp_path: Path, curve: Any) -> None:
    """With one callback for both, no axis begins again."""
    trainer, board = make_trainer(), TensorBoard(tmp_path, update_freq="batch")
    losses = fit(trainer, board, epochs=2).history["loss"]
    losses = losses + fit(trainer, board, epochs=2).history["loss"]

    assert curve(tmp_path / "train", "epoch_loss") == steps_and(losses)
    steps = [step for step, _ in curve(tmp_path / "train", "batch_loss")]
    assert steps == list(range(1, 13))
    evaluations = curve(tmp_path / "validation", "evaluation_loss_vs_iterations")
    assert [step for step, _ in evaluations] == [3, 6, 9, 12]


def test_initial_epoch_is_where_the_curves_begin(tmp_path: Path, curve: Any) -> None:
    """The axis is that of the run."""
    fit(make_trainer(), TensorBoard(tmp_path), initial_epoch=2, epochs=4)

    assert [step for step, _ in curve(tmp_path / "train", "epoch_loss")] == [2, 3]


def test_an_evaluation_by_itself_is_written(tmp_path: Path, curve: Any) -> None:
    """At the optimizer steps of the fit before it."""
    trainer, board = make_trainer(), TensorBoard(tmp_path)
    fit(trainer, board, epochs=1)
    x = torch.zeros(2, 3)
    result = trainer.evaluate((x, x[:, :1]), callbacks=[board], verbose=0)

    last = curve(tmp_path / "validation", "evaluation_loss_vs_iterations")[-1]
    assert last == (3, *float32([result["loss"]]))


def test_the_configuration_is_there_as_text(tmp_path: Path, read: Any) -> None:
    """Parameters, names of callbacks, optimizer and model; no settings, which may be secret."""

    class Another(Callback): ...

    fit(make_trainer(), TensorBoard(tmp_path), Another())

    [event] = read(tmp_path / "train").Tensors("configuration/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    for part in ("epochs: 4", "tensorboard\n", "another", "lr: 0.1", "Linear(in_features"):
        assert part in text
    assert str(tmp_path) not in text


def test_values_that_are_no_numbers_are_left_out(tmp_path: Path, read: Any) -> None:
    """The others are written, also those that are not finite or larger than a float32."""
    callbacks = CallbackList([TensorBoard(tmp_path)], model=None)
    callbacks.on_train_begin()
    logs = {"loss": float("nan"), "big": 1e300, "list": [1, 2], "text": "x", "none": None}
    callbacks.on_epoch_end(0, {**logs, "tensor": torch.tensor(0.5), "flag": True})
    callbacks.on_train_end()

    found = read(tmp_path / "train")
    values = {tag: found.Scalars(tag)[0].value for tag in found.Tags()["scalars"]}
    assert {tag: str(value) for tag, value in values.items()} == {
        "epoch_loss": "nan",
        "epoch_big": "inf",
        "epoch_tensor": "0.5",
        "epoch_flag": "1.0",
    }


def test_nothing_is_written_before_there_is_something_to_write(tmp_path: Path) -> None:
    """A begin hook leaves what is there alone."""
    callbacks = CallbackList([TensorBoard(tmp_path)], model=None)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_is_written_can_be_read_while_the_run_goes_on(tmp_path: Path, curve: Any) -> None:
    """Without waiting for its end."""
    callbacks = CallbackList([TensorBoard(tmp_path)], model=None)
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0, {"loss": 0.5})

    assert curve(tmp_path / "train", "epoch_loss") == [(0, 0.5)]


def test_another_run_in_the_same_folder_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files stay."""
    fit(make_trainer(), TensorBoard(tmp_path), epochs=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*tfevents*")}
    assert capsys.readouterr().out == ""
    fit(make_trainer(), TensorBoard(tmp_path), epochs=1)

    assert "holds an earlier run" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in before}
    newer = sorted((tmp_path / "train").glob("*tfevents*"))[-1]
    assert newer not in before  # TensorBoard reads them in the order of their names


def test_batches_are_read_from_the_device_only_where_asked(tmp_path: Path) -> None:
    """With update_freq="epoch" no batch's value is looked at."""

    class Unread(torch.Tensor):
        def item(self) -> Any:
            raise AssertionError("was read")

    board = TensorBoard(tmp_path, write_graph=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        callbacks = CallbackList([board], model=None)
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(0)
        callbacks.on_train_batch_begin(0)
        callbacks.loop.logs.update(size=1)
        dict.__setitem__(callbacks.loop.logs, "loss", torch.ones(()).as_subclass(Unread))
        callbacks.on_train_batch_end(0)
    assert "on_train_batch_begin" not in callbacks.loop.registry.order()
