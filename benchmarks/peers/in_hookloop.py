"""hookloop's own trainer."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from jobs import Job, Terminal

import hookloop
from hookloop import Callback, Trainer

MODULE = "hookloop"


class Nothing(Callback):
    """Implements both batch hooks, and does nothing in them."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        pass

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        pass


def callbacks(job: Job) -> list[Any]:
    if job.callbacks == "nothing":
        return [Nothing() for _ in range(5)]
    saver = hookloop.load(
        "model_checkpoint", filepath=str(job.folder / "model.{epoch}.pt"), keep_last=2
    )
    if job.callbacks == "saving":
        return [saver]
    if job.callbacks == "realistic":
        return [
            hookloop.load("early_stopping", monitor="loss", patience=1000),
            saver,
            hookloop.load("csv_logger", filename=str(job.folder / "log.csv")),
            hookloop.load("reduce_lr_on_plateau", monitor="loss"),
            "terminate_on_nan",
            hookloop.load("progbar_logger", file=Terminal()),
        ]
    return []


def train(job: Job) -> None:
    model = job.net()
    optimizer = torch.optim.Adam(model.parameters())
    loss = "cross_entropy" if job.model == "mid" else "mse"
    trainer = Trainer(model, loss=loss, optimizer=optimizer, device=job.device)
    with contextlib.redirect_stdout(Terminal()):  # what it has to say of the data
        trainer.fit(job.batches, epochs=job.epochs, callbacks=callbacks(job), verbose=0)
