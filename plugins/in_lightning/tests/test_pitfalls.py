"""What misleads in Lightning, and does not mislead callbacks of hookloop in it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler
from lightning_runs import Regression, few, fit, trainer
from torch import nn

from hookloop import Callback


class Seen(Callback):
    """Writes down the hooks it sees, and what their logs and the loop say."""

    def __init__(self) -> None:
        self.hooks: list[str] = []
        self.batches: list[dict[str, Any]] = []
        self.steps: list[int] = []
        self.saves: list[int] = []
        self.epochs: list[dict[str, Any]] = []
        self.tests: list[dict[str, Any]] = []
        self.rates: list[float] = []

    def on_train_begin(self) -> None:
        self.hooks.append("train_begin")

    def on_epoch_begin(self) -> None:
        self.hooks.append("epoch_begin")

    def on_train_batch_begin(self, loop) -> None:
        self.rates += [loop.lr] if loop.optimizers else []

    def on_train_batch_end(self, batch, logs, loop) -> None:
        self.batches.append(dict(logs))
        self.steps.append(loop.step)

    def on_batch_checkpoint(self, batch) -> None:
        self.saves.append(batch)

    def on_test_begin(self) -> None:
        self.hooks.append("test_begin")

    def on_test_end(self, logs) -> None:
        self.hooks.append("test_end")
        self.tests.append(dict(logs))

    def on_epoch_end(self, logs) -> None:
        self.hooks.append("epoch_end")
        self.epochs.append(dict(logs))

    def on_train_end(self) -> None:
        self.hooks.append("train_end")


def test_the_sanity_check_is_hidden() -> None:
    """Validation before training is no validation of the run: nobody sees it."""
    seen = Seen()

    fit([seen], max_epochs=1, num_sanity_val_steps=2)

    assert seen.hooks == [
        "train_begin", "epoch_begin", "test_begin", "test_end", "epoch_end", "train_end"
    ]  # fmt: skip


def test_an_epoch_without_validation_has_no_val_metrics() -> None:
    """Lightning keeps old values for ever; the logs of an epoch hold its own, or none."""
    seen = Seen()

    callback = fit([seen], max_epochs=4, check_val_every_n_epoch=2)

    assert ["val_loss" in logs for logs in seen.epochs] == [False, True, False, True]
    assert len(callback.history.history["val_loss"]) == 2
    assert len(callback.history.history["loss"]) == 4


def test_a_metric_that_the_module_stops_logging_is_gone() -> None:
    """What was logged in one epoch only is in the logs of that epoch only."""

    class Once(Regression):
        def training_step(self, batch, batch_idx):
            if self.current_epoch == 0:
                self.log("once", 1.0, on_epoch=True, on_step=False)
            return super().training_step(batch, batch_idx)

    seen = Seen()
    fit([seen], module=Once())

    assert [logs.get("once") for logs in seen.epochs] == [1.0, None, None]


def losses_by_hand(window: int = 1) -> list[float]:
    """Train one epoch in plain torch, a step each ``window`` batches; give the loss of each."""
    module, found = Regression(), []
    optimizer = module.configure_optimizers()
    batches = list(few())
    for index, batch in enumerate(batches, 1):
        loss = module.loss(batch)
        found.append(loss.item())
        (loss / window).backward()
        if index % window == 0 or index == len(batches):
            optimizer.step()
            optimizer.zero_grad()
    return found


def test_the_loss_of_a_batch_is_not_divided_by_the_accumulation() -> None:
    """Of micro-batches callbacks see the loss; steps count windows, and savers wait for them."""
    seen = Seen()

    fit([seen], max_epochs=1, accumulate_grad_batches=2)

    assert [logs["loss"] for logs in seen.batches] == losses_by_hand(window=2)
    assert seen.steps == [0, 1, 1, 2, 3]
    assert seen.saves == [1, 3, 4]


def test_the_accumulation_may_change_from_epoch_to_epoch() -> None:
    """The loss stays whole under Lightning's own scheduler of accumulation."""
    seen = Seen()

    fit([seen], GradientAccumulationScheduler({0: 4, 1: 1}), max_epochs=1)

    assert [logs["loss"] for logs in seen.batches] == losses_by_hand(window=4)


def test_the_modules_own_epoch_end_metrics_are_in_the_logs() -> None:
    """Lightning shows them to EarlyStopping and checkpoints alone; the bridge is one."""

    class Late(Regression):
        def on_train_epoch_end(self):
            self.log("late", float(self.current_epoch))

    seen = Seen()
    fit([seen], module=Late())

    assert [logs["late"] for logs in seen.epochs] == [0.0, 1.0, 2.0]


def test_two_validations_an_epoch_are_two_tests_and_one_epoch_end() -> None:
    """With val_check_interval the last one is in the epoch's logs."""
    seen = Seen()

    fit([seen], max_epochs=1, val_check_interval=0.5)

    middle = ["test_begin", "test_end"]
    assert seen.hooks == ["train_begin", "epoch_begin", *middle * 2, "epoch_end", "train_end"]
    assert seen.epochs[0]["val_loss"] == seen.tests[-1]["loss"] != seen.tests[0]["loss"]


class Names(Regression):
    """Logs under the names that people give."""

    def training_step(self, batch, batch_idx):
        self.log("acc", 0.25, on_step=True, on_epoch=True)
        self.log("loss", 99.0)
        return {"loss": self.loss(batch), "norm": torch.tensor(2.0), "preds": batch[0]}

    def validation_step(self, batch, batch_idx):
        for name in ("acc", "valid/f1", "val_loss"):
            self.log(name, 0.5)


def test_names_are_the_modules_own_and_val_stands_before_what_does_not_say_so() -> None:
    """A metric of both is acc and val_acc; no twins of on_step; loss is the mean of the batches."""
    seen = Seen()

    fit([seen], module=Names(), max_epochs=1)

    wanted = {"norm": 2.0, "acc": 0.25, "val_acc": 0.5, "valid/f1": 0.5, "val_loss": 0.5}
    assert seen.epochs[0] == {"loss": seen.epochs[0]["loss"], **wanted}
    assert seen.epochs[0]["loss"] == pytest.approx(sum(losses_by_hand()) / 5)
    assert seen.tests == [{"acc": 0.5, "valid/f1": 0.5, "loss": 0.5}]
    assert [set(logs) for logs in seen.batches] == [{"size", "loss", "norm"}] * 5


class Manual(Regression):
    """Two optimizers, stepped by hand: the first every batch, the second every other."""

    automatic_optimization = False

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.second = nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        loss = self.loss(batch) + self.second.square().sum()
        self.manual_backward(loss)
        first.step()
        if batch_idx % 2:
            second.step()
        first.zero_grad()
        second.zero_grad()

    def configure_optimizers(self):
        others = [p for name, p in self.named_parameters() if name != "second"]
        return torch.optim.SGD(others, 0.1), torch.optim.Adam([self.second])


def test_manual_optimisation_with_two_optimizers_counts_the_steps_of_the_first() -> None:
    """A step returns nothing there, so batches have no loss; everything else is as ever."""
    seen = Seen()

    callback = fit([seen], module=Manual(), max_epochs=1)

    assert seen.steps == [1, 2, 3, 4, 5]
    assert seen.saves == [0, 1, 2, 3, 4]
    assert [set(logs) for logs in seen.batches] == [{"size"}] * 5
    assert list(callback.history.history) == ["val_loss"]


def test_a_batch_that_the_module_skips_ends_and_is_no_step() -> None:
    """training_step may return None: no loss, no step."""

    class Skips(Regression):
        def training_step(self, batch, batch_idx):
            return None if batch_idx == 1 else self.loss(batch)

    seen = Seen()
    with pytest.warns(UserWarning, match="returned `None`"):
        fit([seen], module=Skips(), max_epochs=1)

    assert ["loss" in logs for logs in seen.batches] == [True, False, True, True, True]


def test_an_epoch_that_the_module_cuts_short_ends_in_order() -> None:
    """on_train_batch_start may return -1; the batch that had begun ends, and the epoch too."""

    class Cuts(Regression):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 2 else None

    seen = Seen()
    fit([seen], module=Cuts(), max_epochs=1)

    assert [set(logs) for logs in seen.batches] == [{"size", "loss"}] * 2 + [{"size"}]
    assert list(seen.epochs[0]) == ["loss"]


def test_fast_dev_run_is_a_run_of_one_batch() -> None:
    """The callbacks run in it as ever."""
    seen = Seen()

    fit([seen], fast_dev_run=True)

    assert len(seen.batches) == len(seen.epochs) == len(seen.tests) == 1


def test_bf16_on_the_cpu_is_fine() -> None:
    """Precision plugins change nothing for callbacks."""
    seen = Seen()

    fit([seen, "terminate_on_nan"], precision="bf16-mixed", max_epochs=1)

    assert [logs["loss"] for logs in seen.batches] == pytest.approx(losses_by_hand(), rel=0.05)
    assert seen.steps == [1, 2, 3, 4, 5]


def test_callbacks_are_told_what_lightning_knows() -> None:
    """params, the module, its batches and what its step returned."""

    class Looks(Callback):
        def on_train_batch_end(self, loop):
            self.found = (loop.inputs.shape, loop.targets.shape, loop.outputs["loss"] is loop.loss)

    looks = Looks()
    fit([looks], max_epochs=2)

    assert looks.params == {
        "epochs": 2, "steps": 5, "batch_size": 8, "samples": 40, "verbose": None,
        "metrics": None, "do_validation": True,
    }  # fmt: skip
    assert looks.found == ((8, 8), (8, 1), True)
    assert isinstance(looks.model, Regression)
    assert (looks.loop.rank, looks.loop.world_size, looks.loop.host) == (0, 1, "Lightning")


def test_a_second_fit_has_callbacks_and_a_history_of_its_own() -> None:
    """Those chosen by name are made afresh; Lightning counts the epochs on."""
    made = trainer(["early_stopping:monitor=loss,patience=9"], max_epochs=2)
    bridge = next(c for c in made.callbacks if hasattr(c, "history"))
    made.fit(Regression(), few(), few(16))
    first, stopper = bridge.history, bridge._bridge.run.loop.callbacks["early_stopping"]
    made.fit_loop.max_epochs = 3
    made.fit(Regression(), few(), few(16))

    assert bridge.history is not first
    assert (first.epoch, bridge.history.epoch) == ([0, 1], [2])
    assert bridge._bridge.run.loop.callbacks["early_stopping"] is not stopper


def test_lightnings_own_stop_is_a_stop_of_the_run() -> None:
    """Whoever sets trainer.should_stop: the history says stopped, not finished."""
    callback = fit([], EarlyStopping("val_loss", stopping_threshold=1e9))

    assert callback.history.outcome == "stopped"
    assert callback.history.stop_reason == "trainer.should_stop was set"
