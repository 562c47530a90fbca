"""Lightning, with everything off that can be; with its own callbacks where there are some."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import Any

import lightning as L
import torch
from jobs import Job, Terminal
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

MODULE = "lightning"


class Module(L.LightningModule):
    def __init__(self, job: Job) -> None:
        super().__init__()
        self.net, self.job = job.net(), job

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.job.loss(self.net(batch[0]), batch[1])
        if self.job.callbacks == "realistic":
            self.log("loss", loss, on_epoch=True, on_step=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters())
        if self.job.callbacks != "realistic":
            return optimizer
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "monitor": "loss_epoch"},
        }


class Nothing(L.Callback):
    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        pass

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        pass


def callbacks(job: Job) -> list[Any]:
    if job.callbacks == "nothing":
        return [Nothing() for _ in range(5)]
    saver = ModelCheckpoint(dirpath=job.folder, filename="{epoch}", save_on_train_epoch_end=True)
    if job.callbacks == "saving":
        return [saver]
    if job.callbacks == "realistic":
        stopping = EarlyStopping("loss_epoch", patience=1000, check_on_train_epoch_end=True)
        return [stopping, saver, TQDMProgressBar()]
    return []


def train(job: Job) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    real = job.callbacks == "realistic"
    sink = Terminal()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
    ):
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            accelerator="gpu" if job.device.startswith("cuda") else "cpu",
            devices=1,
            max_epochs=job.epochs,
            logger=CSVLogger(job.folder) if real else False,
            enable_checkpointing=job.callbacks in {"realistic", "saving"},
            enable_progress_bar=real,
            enable_model_summary=False,
            callbacks=callbacks(job),
            default_root_dir=job.folder,
        )
        trainer.fit(Module(job), job.batches)
