"""The whole of a run, hook by hook, against one literal list."""

from __future__ import annotations

import torch
from torch import nn

from hookloop import Callback, Trainer, hookspecs


def recorder() -> tuple[Callback, list]:
    """A callback that implements every hook there is and notes what it was called with."""
    transcript: list = []

    def noting(hook: str):
        def note(self, **arguments):
            arguments.pop("loop")
            transcript.append((hook, *(plain(value) for value in arguments.values())))

        return note

    hooks = {hook: noting(hook) for hook in hookspecs.names()}
    return type("Recorder", (Callback,), hooks)(), transcript


def plain(value):
    if isinstance(value, dict):
        return {key: round(number, 6) for key, number in value.items()}
    return type(value).__name__ if isinstance(value, torch.optim.Optimizer) else value


def test_two_epochs_with_validation_call_every_hook_in_order_with_these_arguments():
    """The order of hooks, their arguments, and what logs hold at each, are exactly these.

    The model is y = w x with w = 0 at first, the data (1, 1) and (2, 2), the rate 1/4, so that by
    hand: w <- w - x (w x - y) / 2, which makes w 1/2, 3/2 in epoch 0, and 5/4, 3/4 in epoch 1.
    """
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    x = torch.tensor([[1.0], [2.0], [3.0]])
    trainer = Trainer(model, loss="mse", optimizer="sgd:lr=0.25", metrics=["mae"], device="cpu")
    callback, transcript = recorder()
    trainer.fit(
        (x[:2], x[:2]),
        epochs=2,
        batch_size=1,
        shuffle=False,
        validation_data=[(x[:2], x[:2]), (x[2:], x[2:])],
        callbacks=[callback],
        verbose=0,
    )
    first = {"loss": 1.0, "mae": 1.0, "val_loss": 1.166667, "val_mae": 1.0}
    second = {"loss": 0.25, "mae": 0.5, "val_loss": 0.291667, "val_mae": 0.5}
    assert transcript == [
        ("on_train_begin", {}),
        ("on_epoch_begin", 0, {}),
        ("on_train_batch_begin", 0, {"size": 1}),
        ("on_before_optimizer_step", "SGD", {"size": 1, "loss": 1.0, "mae": 1.0}),
        ("on_train_batch_end", 0, {"size": 1, "loss": 1.0, "mae": 1.0}),
        ("on_batch_checkpoint", 0, {"size": 1, "loss": 1.0, "mae": 1.0}),
        ("on_train_batch_begin", 1, {"size": 1}),
        ("on_before_optimizer_step", "SGD", {"size": 1, "loss": 1.0, "mae": 1.0}),
        ("on_train_batch_end", 1, {"size": 1, "loss": 1.0, "mae": 1.0}),
        ("on_batch_checkpoint", 1, {"size": 1, "loss": 1.0, "mae": 1.0}),
        ("on_test_begin", {}),
        ("on_test_batch_begin", 0, {"size": 2}),
        ("on_test_batch_end", 0, {"size": 2, "loss": 0.625, "mae": 0.75}),
        ("on_test_batch_begin", 1, {"size": 1}),
        ("on_test_batch_end", 1, {"size": 1, "loss": 2.25, "mae": 1.5}),
        ("on_test_end", {"loss": 1.166667, "mae": 1.0}),
        ("on_epoch_end", 0, first),
        ("on_epoch_checkpoint", 0, first),
        ("on_epoch_begin", 1, {}),
        ("on_train_batch_begin", 0, {"size": 1}),
        ("on_before_optimizer_step", "SGD", {"size": 1, "loss": 0.25, "mae": 0.5}),
        ("on_train_batch_end", 0, {"size": 1, "loss": 0.25, "mae": 0.5}),
        ("on_batch_checkpoint", 0, {"size": 1, "loss": 0.25, "mae": 0.5}),
        ("on_train_batch_begin", 1, {"size": 1}),
        ("on_before_optimizer_step", "SGD", {"size": 1, "loss": 0.25, "mae": 0.5}),
        ("on_train_batch_end", 1, {"size": 1, "loss": 0.25, "mae": 0.5}),
        ("on_batch_checkpoint", 1, {"size": 1, "loss": 0.25, "mae": 0.5}),
        ("on_test_begin", {}),
        ("on_test_batch_begin", 0, {"size": 2}),
        ("on_test_batch_end", 0, {"size": 2, "loss": 0.15625, "mae": 0.375}),
        ("on_test_batch_begin", 1, {"size": 1}),
        ("on_test_batch_end", 1, {"size": 1, "loss": 0.5625, "mae": 0.75}),
        ("on_test_end", {"loss": 0.291667, "mae": 0.5}),
        ("on_epoch_end", 1, second),
        ("on_epoch_checkpoint", 1, second),
        ("on_train_end", second),
    ]
