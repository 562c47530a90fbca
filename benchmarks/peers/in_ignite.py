"""Ignite, with its own handlers; a CSV it does not write, so that is a function of ours."""

from __future__ import annotations

import csv
import warnings

import torch
from ignite.engine import Engine, Events, create_supervised_trainer
from ignite.handlers import (
    Checkpoint,
    DiskSaver,
    EarlyStopping,
    ProgressBar,
    TerminateOnNan,
)
from ignite.handlers.param_scheduler import ReduceLROnPlateauScheduler
from ignite.metrics import Average
from jobs import Job, Terminal
from torch import nn

MODULE = "ignite"


def nothing(engine: Engine) -> None:
    pass


def save(job: Job, trainer: Engine, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    parts = {"model": model, "optimizer": optimizer}
    saver = Checkpoint(parts, DiskSaver(str(job.folder), require_empty=False), n_saved=2)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, saver)


def realistic(
    job: Job, trainer: Engine, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    Average(output_transform=lambda loss: loss).attach(trainer, "loss")
    trainer.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
    save(job, trainer, model, optimizer)
    schedule = ReduceLROnPlateauScheduler(optimizer, metric_name="loss", trainer=trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, schedule)
    stopping = EarlyStopping(1000, lambda engine: -engine.state.metrics["loss"], trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, stopping)
    ProgressBar(file=Terminal()).attach(trainer, output_transform=lambda loss: {"loss": loss})

    @trainer.on(Events.EPOCH_COMPLETED)
    def write(engine: Engine) -> None:
        with open(job.folder / "ignite.csv", "a", newline="") as file:
            csv.writer(file).writerow([engine.state.epoch, engine.state.metrics["loss"]])


def train(job: Job) -> None:
    model = job.net()
    optimizer = torch.optim.Adam(model.parameters())
    trainer = create_supervised_trainer(model, optimizer, job.loss, device=job.device)
    if job.callbacks == "nothing":
        for _ in range(5):
            trainer.add_event_handler(Events.ITERATION_STARTED, nothing)
            trainer.add_event_handler(Events.ITERATION_COMPLETED, nothing)
    elif job.callbacks == "saving":
        save(job, trainer, model, optimizer)
    elif job.callbacks == "realistic":
        realistic(job, trainer, model, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.run(job.batches, max_epochs=job.epochs)
