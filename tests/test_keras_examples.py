"""The callbacks that Keras's documents show in use, in their words but for the import.

Callbacks that those documents write by hand are in test_keras_documents.py. Three examples are with
their plugins: the four epochs of EarlyStopping, the rate of 0.00607 by name and function, and the
six epochs after the restart of BackupAndRestore.
"""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest
import torch
from hookloop_csv_logger import CSVLogger
from hookloop_early_stopping import EarlyStopping
from hookloop_lambda_callback import LambdaCallback
from hookloop_learning_rate_scheduler import LearningRateScheduler
from hookloop_model_checkpoint import ModelCheckpoint
from hookloop_reduce_lr_on_plateau import ReduceLROnPlateau
from hookloop_remote_monitor import RemoteMonitor
from hookloop_swap_ema_weights import SwapEMAWeights
from hookloop_tensorboard import TensorBoard
from hookloop_terminate_on_nan import TerminateOnNaN
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from hookloop import Callback, History, Trainer, load_weights

X = np.linspace(-1, 1, 80, dtype="float32").reshape(20, 4)
Y = (X.sum(1) > 0).astype("int64")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, as the documents name files without one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_trainer(model: nn.Module | None = None, **options: Any) -> Trainer:
    torch.manual_seed(0)
    chosen = {"loss": "cross_entropy", "optimizer": "sgd:lr=0.1", "metrics": ["acc"], **options}
    return Trainer(model or nn.Linear(4, 2), device="cpu", seed=0, **chosen)


def fit(callbacks: Any, *, trainer: Trainer | None = None, **options: Any) -> History:
    options = {"epochs": 3, "validation_data": (X, Y), "verbose": 0, **options}
    return (trainer or make_trainer()).fit((X, Y), callbacks=callbacks, **options)


def test_the_scheduler_ends_at_0_00607() -> None:
    """The five samples, SGD with its own rate, and fifteen epochs of which ten keep it."""

    def scheduler(epoch, lr):
        if epoch < 10:
            return lr
        return lr * math.exp(-0.1)

    trainer = make_trainer(nn.Linear(20, 10), loss="mse", optimizer="sgd", metrics=None)
    assert round(trainer.optimizer.param_groups[0]["lr"], 5) == 0.01
    callback = LearningRateScheduler(scheduler)
    data = (np.arange(100).reshape(5, 20).astype("float32"), np.zeros((5, 10), "float32"))
    trainer.fit(data, epochs=15, callbacks=[callback], verbose=0)
    assert round(trainer.optimizer.param_groups[0]["lr"], 5) == 0.00607


def test_the_book_s_list_of_two_stops_and_keeps_the_best() -> None:
    """Stops when accuracy has not improved for more than one epoch; the best model is the file."""
    callbacks_list = [
        EarlyStopping(monitor="acc", patience=1),
        ModelCheckpoint(filepath="my_model.h5", monitor="val_loss", save_best_only=True),
    ]
    trainer = make_trainer(optimizer="sgd:lr=0.0")
    history = fit(callbacks_list, trainer=trainer, epochs=10, batch_size=32)
    assert (len(history.epoch), history.outcome) == (2, "stopped")
    best = nn.Linear(4, 2)
    load_weights(best, "my_model.h5")
    assert torch.equal(best.weight, trainer.module.weight)


@pytest.mark.parametrize("suffix", ["hdf5", "keras", "weights.h5"])
def test_checkpoints_are_named_after_epoch_and_loss(folder: Path, suffix: str) -> None:
    """One file an epoch, the epoch from 1 in two digits and val_loss in two decimals."""
    checkpoint = ModelCheckpoint("weights.{epoch:02d}-{val_loss:.2f}." + suffix)
    history = fit([checkpoint])
    expected = [
        f"weights.{epoch:02d}-{value:.2f}.{suffix}"
        for epoch, value in enumerate(history.history["val_loss"], 1)
    ]
    assert sorted(path.name for path in folder.iterdir()) == expected


def test_the_checkpointer_says_when_the_validation_loss_has_decreased(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After the first epoch it is saved, and after one that is no better it is not."""
    checkpointer = ModelCheckpoint(filepath="weights.hdf5", verbose=1, save_best_only=True)
    fit(checkpointer, trainer=make_trainer(optimizer="sgd:lr=0.0"), epochs=2)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Epoch 1: val_loss improved from None to ")
    assert first.endswith(", saving model to weights.hdf5")
    assert second.startswith("Epoch 2: val_loss did not improve from ")


def test_the_weights_that_are_considered_the_best_can_be_loaded() -> None:
    """By the highest accuracy, weights only; the model then measures what it measured then."""
    checkpoint_filepath = "ckpt/checkpoint.weights.h5"
    model_checkpoint_callback = ModelCheckpoint(
        filepath=checkpoint_filepath,
        monitor="val_acc",
        mode="max",
        save_best_only=True,
        save_weights_only=True,
    )
    trainer = make_trainer()
    history = fit(model_checkpoint_callback, trainer=trainer, epochs=5)
    load_weights(trainer.module, checkpoint_filepath)
    measured = trainer.evaluate((X, Y), verbose=0)
    assert measured["acc"] == max(history.history["val_acc"])


def test_the_rate_falls_to_a_fifth_after_five_epochs_and_to_no_less_than_0_001() -> None:
    """The validation loss never improves, so the rate falls twice and then stays."""
    reduce_lr = ReduceLROnPlateau(monitor="val_loss", factor=0.2, patience=5, min_lr=0.001)
    trainer = make_trainer(optimizer="sgd:lr=0.01")
    history = fit(reduce_lr, trainer=trainer, epochs=18, validation_data=(-1e3 * X, Y))
    found = np.array(history.history["lr"])
    assert found == pytest.approx(np.repeat([0.01, 0.002, 0.001], [6, 5, 7]))


def test_the_csv_logger_writes_training_log() -> None:
    """A row an epoch, with what the history has."""
    csv_logger = CSVLogger("training.log")
    history = fit([csv_logger])
    with open("training.log", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [float(row["val_loss"]) for row in rows] == history.history["val_loss"]


def test_tensorboard_with_a_log_folder_alone() -> None:
    """Curves of training and validation under ./logs."""
    history = fit([TensorBoard(log_dir="./logs")])
    for run, key in (("train", "acc"), ("validation", "val_acc")):
        curve = EventAccumulator(f"logs/{run}").Reload().Scalars("epoch_acc")
        assert [event.value for event in curve] == pytest.approx(history.history[key])


def test_the_book_s_tensorboard_has_histograms_and_embeddings(folder: Path) -> None:
    """Both every epoch, for a model of text with a layer named embed."""
    layers = {"embed": nn.Embedding(9, 4), "flat": nn.Flatten(), "out": nn.Linear(20, 2)}
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    callbacks = [TensorBoard(log_dir="my_log_dir", histogram_freq=1, embeddings_freq=1)]
    words = np.random.default_rng(0).integers(0, 9, (20, 5))
    trainer = make_trainer(model, optimizer="rmsprop")
    trainer.fit((words, Y), epochs=2, validation_split=0.2, callbacks=callbacks, verbose=0)
    written = EventAccumulator("my_log_dir/train", size_guidance={"histograms": 0}).Reload()
    assert len(written.Histograms("embed/weight/histogram")) == 2
    assert (folder / "my_log_dir/train/projector_config.pbtxt").exists()


def test_a_lambda_prints_the_batch_number_when_every_batch_begins(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Under the older name of the hook."""
    batch_print_callback = LambdaCallback(on_batch_begin=lambda batch, logs: print(batch))
    fit([batch_print_callback], batch_size=10, epochs=2)
    assert capsys.readouterr().out.split() == ["0", "1", "0", "1"]


def test_a_lambda_streams_the_loss_of_each_epoch_as_json() -> None:
    """A line an epoch, in a file that is closed when training ends."""
    json_log = open("loss_log.json", mode="w", buffering=1)  # noqa: SIM115  (as in the document)
    json_logging_callback = LambdaCallback(
        on_epoch_end=lambda epoch, logs: json_log.write(
            json.dumps({"epoch": epoch, "loss": logs["loss"]}) + "\n"
        ),
        on_train_end=lambda logs: json_log.close(),
    )
    history = fit([json_logging_callback])
    assert json_log.closed
    found = [json.loads(line) for line in Path("loss_log.json").read_text().splitlines()]
    assert found == [{"epoch": e, "loss": v} for e, v in enumerate(history.history["loss"])]


def test_a_lambda_terminates_processes_after_training() -> None:
    """Those that are alive still."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=time.sleep, args=(60,)) for _ in range(2)]
    for process in processes:
        process.start()
    cleanup_callback = LambdaCallback(
        on_train_end=lambda logs: [p.terminate() for p in processes if p.is_alive()]
    )
    fit([cleanup_callback])
    for process in processes:
        process.join(10)
    assert [process.is_alive() for process in processes] == [False, False]


class Publisher(BaseHTTPRequestHandler):
    """Keeps path and form of every request."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.received.append((self.path, parse_qs(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    with HTTPServer(("127.0.0.1", 0), Publisher) as server:
        server.received = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_remote_monitor_publishes_every_epoch(server: Any) -> None:
    """At the path of the documents, a form with the epoch and its logs as JSON in one field."""
    root = f"http://127.0.0.1:{server.server_port}"
    remote = RemoteMonitor(root=root, path="/publish/epoch/end/", field="data", headers=None)
    history = fit([remote])
    assert [path for path, _ in server.received] == ["/publish/epoch/end/"] * 3
    sent = [json.loads(form["data"][0]) for _, form in server.received]
    assert [one.pop("epoch") for one in sent] == [0, 1, 2]
    assert [one["val_loss"] for one in sent] == history.history["val_loss"]


def test_a_loss_of_nan_terminates_training(capsys: pytest.CaptureFixture[str]) -> None:
    """At the batch in which it is found."""
    x = X.copy()
    x[12] = np.nan
    trainer = make_trainer()
    history = trainer.fit(
        (x, Y), batch_size=5, shuffle=False, callbacks=[TerminateOnNaN()], verbose=0
    )
    assert capsys.readouterr().out == "Batch 2: Invalid loss, terminating training\n"
    assert history.outcome == "failed"


class Weights(Callback):
    """Keeps the first weight as validation finds it, and as training leaves it."""

    def __init__(self) -> None:
        self.tested: list[float] = []
        self.trained: list[float] = []

    def on_train_batch_end(self, batch, logs=None):
        self.trained.append(self.model.weight[0, 0].item())

    def on_test_begin(self, logs=None):
        self.tested.append(self.model.weight[0, 0].item())


def test_averaged_weights_are_swapped_in_for_validation() -> None:
    """In Keras the momentum is the optimizer's, 0.99; training goes on with its own weights."""
    weights, trainer = Weights(), make_trainer()
    fit([SwapEMAWeights(), weights], trainer=trainer, epochs=3, batch_size=20)
    average = expected = weights.trained[0]
    for one in weights.trained[1:]:
        average = 0.99 * average + 0.01 * one
    assert weights.tested[0] == pytest.approx(expected)
    assert weights.tested[-1] == pytest.approx(average)
    assert trainer.module.weight[0, 0].item() == weights.trained[-1]
