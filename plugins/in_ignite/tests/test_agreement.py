"""The training in which every host has to agree, in Ignite."""

from __future__ import annotations

from pathlib import Path

import agreement
import hookloop_in_ignite
import torch
from ignite.engine import create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Loss
from torch import nn


def test_ignite_agrees_with_the_loop_by_hand(tmp_path: Path) -> None:
    """Hooks, losses, rates, decisions, files and weights, bit for bit.

    All but val_loss, which Ignite's Loss adds up in the same order, but as a float32 tensor.
    """
    by_hand, own = tmp_path / "by_hand", tmp_path / "ignite"
    reference = agreement.by_hand(by_hand)
    chosen, recording = agreement.callbacks(own)
    model, loss_fn = agreement.model(), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=agreement.RATE)
    trainer = create_supervised_trainer(model, optimizer, loss_fn)
    evaluator = create_supervised_evaluator(model, {"loss": Loss(loss_fn)})
    hookloop_in_ignite.attach(
        trainer,
        chosen,
        model=model,
        optimizer=optimizer,
        evaluator=evaluator,
        run_validation=lambda: evaluator.run(agreement.batches("validation")),
        loss_fn=loss_fn,
    )

    trainer.run(agreement.batches("training"), max_epochs=agreement.EPOCHS)

    found = agreement.outcome(recording, model, own)
    agreement.check(found, reference, "Ignite", tolerance=1e-7)
    assert found.losses == reference.losses
    assert torch.equal(found.weights, reference.weights)
