"""A request to stop is heard at once, wherever it is made, and its reason is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hookloop_in_transformers import HookloopCallback

#: Where a stop is asked for in epoch 1: and the batches, epoch ends and optimizer steps that are
#: seen in the whole run of three epochs of ten.
PLACES = {
    "on_train_begin": (0, 0, 0),
    "on_epoch_begin": (10, 2, 10),
    "on_train_batch_begin": (11, 2, 11),
    "on_before_optimizer_step": (11, 2, 10),
    "on_train_batch_end": (11, 2, 11),
    "on_batch_checkpoint": (11, 2, 11),
    "on_test_begin": (20, 2, 20),
    "on_test_batch_end": (20, 2, 20),
    "on_test_end": (20, 2, 20),
    "on_epoch_end": (20, 2, 20),
    "on_epoch_checkpoint": (20, 2, 20),
}


@pytest.mark.parametrize("hook", PLACES)
def test_a_stop_is_heard_in_every_hook(make: Any, hook: str) -> None:
    """The batch goes on to its end, the epoch that was cut is evaluated and rounded off."""
    notes, steps = make.Notes(), []

    def stop(loop: Any) -> None:
        if hook == "on_train_begin" or loop.epoch == 1:
            loop.stop("enough")

    ending = make.Doing("on_train_end", lambda loop: steps.append(loop.step), name="ending")
    callback = HookloopCallback([make.Doing(hook, stop), notes, ending])
    trainer = make.trainer(callback, eval_strategy="epoch")
    trainer.train()

    batches, ends = len(notes.named("on_train_batch_end")), len(notes.named("on_epoch_end"))
    assert (batches, ends, *steps) == PLACES[hook]
    assert len(notes.named("on_train_end")) == 1
    assert callback.history.outcome == "stopped"
    assert callback.history.stop_reason == "enough"
    assert all("val_loss" in logs for logs in notes.logs("on_epoch_end"))


def test_a_step_that_is_skipped_changes_no_weight(make: Any) -> None:
    """A stop that is asked for before the optimizer's step."""
    trainer = make.trainer(
        make.Doing("on_before_optimizer_step", lambda loop: loop.stop("gradients are bad"))
    )
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}

    trainer.train()

    assert all(torch.equal(before[key], now) for key, now in trainer.model.state_dict().items())


def test_a_stop_inside_a_window_ends_it(make: Any) -> None:
    """With accumulation no further micro-batch is fed; the Trainer then makes no step of it."""
    notes, steps = make.Notes(), []

    def stop(loop: Any) -> None:
        steps.append(loop.step)
        if loop.batch == 5:
            loop.stop("enough")

    make.trainer(
        [make.Doing("on_train_batch_end", stop), notes], gradient_accumulation_steps=4
    ).train()

    assert [call[1] for call in notes.named("on_train_batch_end")] == [0, 1, 2, 3, 4, 5]
    assert steps == [0, 0, 0, 1, 1, 1]
    assert len(notes.named("on_epoch_end")) == 1


def test_a_failed_run_has_no_row_for_the_epoch_it_failed_in(make: Any) -> None:
    """terminate_on_nan: no evaluation, no end of that epoch, and the outcome says so."""
    notes = make.Notes()

    def spoil(loop: Any) -> None:
        if (loop.epoch, loop.batch) == (1, 3):
            with torch.no_grad():
                loop.model[0].weight.fill_(float("nan"))

    callback = HookloopCallback(
        [make.Doing("on_train_batch_begin", spoil), "terminate_on_nan", notes]
    )
    make.trainer(callback, eval_strategy="epoch").train()

    assert callback.history.outcome == "failed"
    assert "NaN" in callback.history.stop_reason or "nan" in callback.history.stop_reason
    assert callback.history.epoch == [0]
    assert len(notes.named("on_test_begin")) == 1
    assert len(notes.named("on_train_batch_end")) == 14


def test_a_run_that_nobody_stops_is_finished(make: Any) -> None:
    """Also one that max_steps ends in the middle of an epoch, which is rounded off."""
    callback = HookloopCallback()

    make.trainer(callback, max_steps=14).train()

    assert callback.history.outcome == "finished"
    assert callback.history.stop_reason is None
    assert callback.history.epoch == [0, 1]


def test_the_next_training_begins_afresh(make: Any) -> None:
    """Counters, requests to stop, and callbacks that were chosen by name."""
    seen = []
    looking = make.Doing("on_train_batch_begin", lambda loop: seen.append((loop.epoch, loop.step)))
    callback = HookloopCallback(["early_stopping:monitor=loss,baseline=-1", looking])
    trainer = make.trainer(callback, num_train_epochs=5)

    trainer.train()
    first, seen[:] = list(seen), []
    trainer.train()

    assert len(first) == 20  # two epochs without any that beats the baseline
    assert seen == first
    assert callback.history.outcome == "stopped"
    assert callback.history.epoch == [0, 1]
