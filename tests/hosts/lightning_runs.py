"""Runs of Lightning for the tests of its bridge: the module and the trainer that they share."""

from __future__ import annotations

from typing import Any

import agreement
import lightning
import torch
from hookloop_in_lightning import HookloopCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Regression(lightning.LightningModule):
    """The model of `agreement` with the same names of weights; logs ``val_loss``."""

    def __init__(self) -> None:
        super().__init__()
        for name, child in agreement.model().named_children():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = child(x)
        return x

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("val_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=agreement.RATE)


def few(samples: int = 40, batch: int = 8) -> DataLoader[Any]:
    """Give a loader of the first training samples, in a fixed order: 5 batches of 8."""
    x, y = agreement.arrays("training")
    return DataLoader(TensorDataset(x[:samples], y[:samples]), batch)


def trainer(callbacks: Any, *others: Any, **options: Any) -> lightning.Trainer:
    """Make a trainer with a bridge, or with several made elsewhere, and Lightning's callbacks."""
    bridges = callbacks if isinstance(callbacks, tuple) else (HookloopCallback(callbacks),)
    saves = any(isinstance(one, lightning.pytorch.callbacks.Checkpoint) for one in others)
    settings = {"max_epochs": 3, "enable_checkpointing": saves, **QUIET, **options}
    return lightning.Trainer(callbacks=[*bridges, *others], **settings)


def fit(callbacks: Any, *others: Any, module: Any = None, **options: Any) -> HookloopCallback:
    """Train the module on few samples, and give the first bridge."""
    path, weights_only = options.pop("ckpt_path", None), True
    made = trainer(callbacks, *others, **options)
    module = module if module is not None else Regression()
    made.fit(module, few(), few(16), ckpt_path=path, weights_only=weights_only if path else None)
    return next(one for one in made.callbacks if isinstance(one, HookloopCallback))
