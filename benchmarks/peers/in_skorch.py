"""skorch, with its own callbacks; a CSV it does not write, so that is one of ours."""

from __future__ import annotations

import contextlib
import csv
from typing import Any

import torch
from jobs import Job, Terminal
from skorch import NeuralNet
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, LRScheduler, ProgressBar
from torch import nn

MODULE = "skorch"


class Nothing(Callback):
    def on_batch_begin(self, net: Any, batch: Any = None, training: Any = None, **_: Any) -> None:
        pass

    def on_batch_end(self, net: Any, batch: Any = None, training: Any = None, **_: Any) -> None:
        pass


class Row(Callback):
    def __init__(self, path: Any) -> None:
        self.path = path

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        row = net.history[-1]
        with open(self.path, "a", newline="") as file:
            csv.writer(file).writerow([row["epoch"], row["train_loss"]])


class Ready:
    """Gives the batches as they are."""

    job: Job

    def __init__(self, dataset: Any, **_: Any) -> None:
        pass

    def __len__(self) -> int:
        return self.job.steps

    def __iter__(self) -> Any:
        return iter(self.job.batches)


class One(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(1), torch.zeros(1)


def callbacks(job: Job) -> list[Any]:
    if job.callbacks == "nothing":
        return [(f"nothing{index}", Nothing()) for index in range(5)]
    saver = Checkpoint(monitor=None, dirname=str(job.folder / "skorch"))
    if job.callbacks == "saving":
        return [saver]
    if job.callbacks == "realistic":
        return [
            EarlyStopping(monitor="train_loss", patience=1000),
            saver,
            Row(job.folder / "skorch.csv"),
            LRScheduler(torch.optim.lr_scheduler.ReduceLROnPlateau, monitor="train_loss"),
            ProgressBar(),
        ]
    return []


def train(job: Job) -> None:
    Ready.job = job

    class Loss(nn.Module):
        def forward(self, outputs: Any, targets: Any) -> Any:
            return job.loss(outputs, targets)

    net = NeuralNet(
        job.net(),
        Loss,
        optimizer=torch.optim.Adam,
        lr=0.001,
        max_epochs=job.epochs,
        iterator_train=Ready,
        train_split=None,
        callbacks=callbacks(job),
        callbacks__print_log=None,
        verbose=0,
        device=job.device,
    )
    with contextlib.redirect_stdout(Terminal()), contextlib.redirect_stderr(Terminal()):
        net.fit(One())
