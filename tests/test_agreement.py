"""Every loop of core gives callbacks the same training; the bridges' own tests have theirs."""

from __future__ import annotations

from pathlib import Path

import agreement
import pytest
from torch.optim import SGD

import hookloop


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> agreement.Outcome:
    return agreement.by_hand(tmp_path_factory.mktemp("by_hand"))


def test_by_hand_the_training_comes_close_to_every_decision(reference: agreement.Outcome) -> None:
    """The plateau lowers the rate, and early stopping ends the run, before the epochs run out."""
    assert len(reference.validations) == 6
    assert reference.validations.index(min(reference.validations)) == 3
    assert reference.rates[-1] < 0.6 * reference.rates[-11]
    assert reference.reason.startswith("early_stopping: ")


def test_the_trainer_agrees(reference: agreement.Outcome, tmp_path: Path) -> None:
    """To the last bit: it computes the same operations."""
    model = agreement.model()
    items, recording = agreement.callbacks(tmp_path)
    trainer = hookloop.Trainer(
        model, loss="mse", optimizer=SGD(model.parameters(), agreement.RATE), device="cpu"
    )
    trainer.fit(
        agreement.batches("training"),
        epochs=agreement.EPOCHS,
        validation_data=agreement.batches("validation"),
        callbacks=items,
        verbose=0,
    )

    agreement.check(agreement.outcome(recording, model, tmp_path), reference, "Trainer")
