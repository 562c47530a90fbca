"""The training in which every host has to agree, in skorch."""

from __future__ import annotations

from pathlib import Path

import agreement
import torch
from hookloop_in_skorch import HookloopCallback
from skorch import NeuralNetRegressor
from skorch.dataset import Dataset
from skorch.helper import predefined_split


def test_skorch_agrees_with_the_loop_by_hand(tmp_path: Path) -> None:
    """Hooks, losses, rates, decisions, files and weights, bit for bit."""
    by_hand, own = tmp_path / "by_hand", tmp_path / "skorch"
    reference = agreement.by_hand(by_hand)
    chosen, recording = agreement.callbacks(own)
    net = NeuralNetRegressor(
        agreement.model,
        max_epochs=agreement.EPOCHS,
        batch_size=agreement.BATCH,
        lr=agreement.RATE,
        optimizer=torch.optim.SGD,
        train_split=predefined_split(Dataset(*agreement.arrays("validation"))),
        callbacks=[HookloopCallback(chosen)],
        verbose=0,
    )

    net.fit(*agreement.arrays("training"))

    agreement.check(agreement.outcome(recording, net.module_, own), reference, "skorch")
