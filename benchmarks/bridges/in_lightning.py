"""The step of Lightning, alone and with the bridge."""

from __future__ import annotations

import itertools
import logging
import time
import warnings
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from hookloop_in_lightning import HookloopCallback
from torch import nn

WARM_UP = 50


class Clock(L.Callback):
    """Takes the time from the end of the warm-up to the end of the epoch."""

    began = ended = 0.0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == WARM_UP:
            self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.ended = time.perf_counter()


class Batches:
    """So many batches, ready made; Lightning takes a list for several loaders."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return itertools.repeat((torch.randn(32, 16), torch.randn(32, 1)), self.count)


class Module(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


def step_seconds(callbacks: list[Any] | None, steps: int) -> float:
    """Train one epoch of so many steps, and give the seconds of one; without a bridge if None."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(0)
    bridge = [] if callbacks is None else [HookloopCallback(callbacks)]
    clock = Clock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[*bridge, clock],
        )
        trainer.fit(Module(), Batches(steps + WARM_UP))
    return (clock.ended - clock.began) / steps
