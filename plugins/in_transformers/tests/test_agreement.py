"""The training in which every host has to agree, in a Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import agreement
from hookloop_in_transformers import HookloopCallback


def test_the_trainer_agrees(make: Any, tmp_path: Path) -> None:
    """To the last bit, but for val_loss: the Trainer takes that mean in float32."""
    (tmp_path / "by_hand").mkdir()
    reference = agreement.by_hand(tmp_path / "by_hand")
    items, recording = agreement.callbacks(tmp_path)
    trainer = make.trainer(
        HookloopCallback(items), num_train_epochs=agreement.EPOCHS, eval_strategy="epoch"
    )

    trainer.train()

    found = agreement.outcome(recording, trainer.model, tmp_path)
    agreement.check(found, reference, "transformers", tolerance=2e-7)
    assert found.losses == reference.losses
    assert found.rates == reference.rates
    assert found.weights.equal(reference.weights)
    assert found.best.equal(reference.best)
