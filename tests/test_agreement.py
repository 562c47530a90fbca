"""Every loop of core gives callbacks the same training; the bridges' own tests have theirs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import agreement
import pytest
import torch
from torch import nn
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


def test_a_loop_by_hand_with_attach_agrees(reference: agreement.Outcome, tmp_path: Path) -> None:
    """The loop is the user's own; attach finds steps and gradients by itself."""
    model = agreement.model()
    optimizer = SGD(model.parameters(), agreement.RATE)
    items, recording = agreement.callbacks(tmp_path)
    with hookloop.attach(model, optimizer, callbacks=items, epochs=agreement.EPOCHS) as loop:
        for _ in loop.epochs():
            for x, y in loop.batches(agreement.batches("training")):
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(x), y)
                loss.backward()
                loop.log(loss=loss)
                optimizer.step()
            with loop.validation(), torch.no_grad():
                for x, y in loop.batches(agreement.batches("validation")):
                    loop.log(loss=nn.functional.mse_loss(model(x), y))

    agreement.check(agreement.outcome(recording, model, tmp_path), reference, "attach")


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("a hook too many", lambda found: found.transcript.append(("on_epoch_end", 9))),
        ("a stale loss", lambda found: found.losses.__setitem__(3, found.losses[2])),
        ("a rate of before", lambda found: found.rates.__setitem__(-1, found.rates[0])),
        ("steps of batches", lambda found: found.steps.__setitem__(0, 2)),
        ("validation of the last epoch", lambda found: found.validations.reverse()),
        ("no reason", lambda found: setattr(found, "reason", None)),
        ("another end", lambda found: setattr(found, "outcome", "finished")),
        ("a column too many", lambda found: found.table[0].update(more=1.0)),
        ("other weights", lambda found: found.weights.add_(1e-6)),
        ("another best", lambda found: found.best.add_(1e-6)),
    ],
)
def test_what_differs_is_found(reference: agreement.Outcome, what: str, change: Any) -> None:
    """The comparison can fail, on each of the things that it compares."""
    found = copy.deepcopy(reference)
    change(found)
    with pytest.raises(AssertionError):
        agreement.check(found, reference, "Trainer")
