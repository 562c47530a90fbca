"""What the tests of this plugin share: an empty folder, a run to interrupt, and its messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop_backup_and_restore import BackupAndRestore

from hookloop import Callback, Trainer
from hookloop.checkpoints import load_state


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Breaks(Callback):
    """Raises when an epoch begins, or after a batch of it."""

    def __init__(self, epoch: int, batch: int | None = None) -> None:
        self.epoch, self.at = epoch, batch

    def on_epoch_begin(self, epoch: int) -> None:
        if epoch == self.epoch and self.at is None:
            raise RuntimeError("power cut")

    def on_train_batch_end(self, batch: int) -> None:
        if (self.loop.epoch, batch) == (self.epoch, self.at):
            raise RuntimeError("power cut")


class Run:
    """Fits a small model, 4 batches an epoch; each call is a new run of the same script."""

    BreaksAt = Breaks

    def __call__(self, *callbacks: Any, epochs: int = 4, width: int = 3, **fit: Any) -> Trainer:
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(3, width), torch.nn.Dropout(0.5), torch.nn.Linear(width, 1)
        )
        self.trainer = Trainer(model, loss="mse", optimizer="adam:lr=0.05", seed=7, device="cpu")
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
        self.trainer.fit(
            (x, x.sum(1, keepdim=True)),
            batch_size=4,
            epochs=epochs,
            callbacks=list(callbacks),
            verbose=0,
            **fit,
        )
        return self.trainer

    def broken(
        self, epoch: int, batch: int | None = None, *callbacks: Any, **settings: Any
    ) -> Trainer:
        """A run that is broken off by an exception; its backup is in the folder `backup`."""
        backup = BackupAndRestore("backup", **settings)
        with pytest.raises(RuntimeError, match="power cut"):
            self(*callbacks, backup, Breaks(epoch, batch))
        return self.trainer

    @staticmethod
    def places(folder: str = "backup") -> dict[str, tuple[int, int]]:
        """Where the saved states are in the run: index of epoch and of the next batch."""
        states = {path.name: load_state(path)["loop"] for path in Path(folder).glob("state-*")}
        return {name: (states[name]["epoch"], states[name]["batch"]) for name in sorted(states)}


@pytest.fixture
def run() -> Run:
    return Run()
