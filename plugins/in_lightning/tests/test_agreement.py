"""The training that is the same for every host, in Lightning."""

from __future__ import annotations

from pathlib import Path

import agreement
from lightning_runs import Regression, trainer


def test_lightning_agrees_with_a_loop_by_hand(tmp_path: Path) -> None:
    """Hooks, losses, rates, steps, weights: bit for bit. Only Lightning's means differ.

    It takes the mean of val_loss in float32, so that the last bits of 24 are others.
    """
    (tmp_path / "hand").mkdir()
    reference = agreement.by_hand(tmp_path / "hand")
    chosen, recording = agreement.callbacks(tmp_path)
    module = Regression()

    made = trainer(chosen, max_epochs=agreement.EPOCHS)
    made.fit(module, agreement.batches("training"), agreement.batches("validation"))
    found = agreement.outcome(recording, module, tmp_path)

    assert (found.losses, found.rates) == (reference.losses, reference.rates)
    assert found.weights.equal(reference.weights)
    assert found.best.equal(reference.best)
    agreement.check(found, reference, "Lightning", tolerance=2**-22)
