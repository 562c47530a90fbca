"""What the tests of this plugin share: an empty folder, a model to save, and a run of epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import CallbackList

Run = Callable[..., CallbackList]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model() -> torch.nn.Linear:
    """One weight, which `run` sets to the number of the epoch."""
    return torch.nn.Linear(1, 1, bias=False)


@pytest.fixture
def run(model: torch.nn.Linear) -> Run:
    """Drive callbacks through epochs, one for each value; None stands for a missing metric."""

    def drive(
        *callbacks: Any, values: Sequence[float | None], key: str = "val_loss"
    ) -> CallbackList:
        chosen = CallbackList(list(callbacks), model=model)
        chosen.on_train_begin()
        for epoch, value in enumerate(values):
            with torch.no_grad():
                model.weight.fill_(epoch + 1)
            chosen.on_epoch_end(epoch, {} if value is None else {key: value})
        chosen.on_train_end()
        return chosen

    return drive
