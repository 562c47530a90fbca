"""Runs of Lightning for the tests of its bridge: the module and the trainer that they share."""

from __future__ import annotations

from collections.abc import Iterator
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


class Resumable:
    """The batches of `few` from a loader that goes on inside an epoch, as Lightning asks of one."""

    def __init__(self) -> None:
        self._batches = list(few())
        self._start = self._next = 0

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        start, self._start = self._start, 0
        for index in range(start, len(self._batches)):
            self._next = index + 1
            yield self._batches[index]

    def state_dict(self) -> dict[str, Any]:
        return {"next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._start = state["next"] % len(self._batches)


def trainer(callbacks: Any, *others: Any, **options: Any) -> lightning.Trainer:
    """Make a trainer with a bridge, or with several made elsewhere, and Lightning's callbacks."""
    bridges = callbacks if isinstance(callbacks, tuple) else (HookloopCallback(callbacks),)
    saves = any(isinstance(one, lightning.pytorch.callbacks.Checkpoint) for one in others)
    settings = {"max_epochs": 3, "enable_checkpointing": saves, **QUIET, **options}
    return lightning.Trainer(callbacks=[*bridges, *others], **settings)


def fit(callbacks: Any, *others: Any, module: Any = None, **options: Any) -> HookloopCallback:
    """Train the module on few samples, and give the first bridge."""
    path, data = options.pop("ckpt_path", None), options.pop("data", None)
    made = trainer(callbacks, *others, **options)
    module = module if module is not None else Regression()
    safe = True if path else None
    made.fit(module, data or few(), few(16), ckpt_path=path, weights_only=safe)
    return next(one for one in made.callbacks if isinstance(one, HookloopCallback))
