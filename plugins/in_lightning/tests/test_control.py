"""Stopping, the learning rate and refusals, in Lightning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hookloop_in_lightning import HookloopCallback
from lightning_runs import Regression, few, fit, trainer

from hookloop import Callback
from hookloop.errors import ArgumentError, CapabilityError, UnknownCallbackError


class Stops(Callback):
    """Asks to stop in one hook, at one batch of it; counts what it still sees."""

    def __init__(self, hook: str, at: int = 0, *, failed: bool = False) -> None:
        self.hook, self.at, self.failed, self.seen = hook, at, failed, []

    def _see(self, hook: str, loop: Any, index: int | None) -> None:
        self.seen.append(hook)
        if hook == self.hook and index == self.at:
            loop.stop(f"asked in {hook}", failed=self.failed)

    def on_train_begin(self, loop) -> None:
        self._see("train_begin", loop, 0)

    def on_epoch_begin(self, loop, epoch) -> None:
        self._see("epoch_begin", loop, epoch)

    def on_train_batch_begin(self, loop, batch) -> None:
        self._see("batch_begin", loop, batch)

    def on_before_optimizer_step(self, loop) -> None:
        self._see("step", loop, loop.batch)

    def on_train_batch_end(self, loop, batch) -> None:
        self._see("batch_end", loop, batch)

    def on_batch_checkpoint(self, loop) -> None:
        self._see("save", loop, None)

    def on_test_end(self, loop) -> None:
        self._see("test_end", loop, 0)

    def on_epoch_end(self, loop, epoch) -> None:
        self._see("epoch_end", loop, epoch)

    def on_train_end(self, loop) -> None:
        self._see("train_end", loop, None)


BATCH = ["batch_begin", "step", "batch_end", "save"]


@pytest.mark.parametrize(
    ("hook", "at", "seen"),
    [
        ("train_begin", 0, []),
        ("epoch_begin", 0, ["epoch_begin", "epoch_end"]),
        ("batch_begin", 1, ["epoch_begin", *BATCH * 2, "test_end", "epoch_end"]),
        ("step", 1, ["epoch_begin", *BATCH * 2, "test_end", "epoch_end"]),
        ("batch_end", 1, ["epoch_begin", *BATCH * 2, "test_end", "epoch_end"]),
        ("test_end", 0, ["epoch_begin", *BATCH * 5, "test_end", "epoch_end"]),
        ("epoch_end", 0, ["epoch_begin", *BATCH * 5, "test_end", "epoch_end"]),
    ],
)
def test_a_request_to_stop_stops_where_it_should(hook: str, at: int, seen: list[str]) -> None:
    """The batch and the epoch that were cut end in order; the reason is kept."""
    stops = Stops(hook, at)

    callback = fit([stops])

    assert stops.seen == ["train_begin", *seen, "train_end"]
    assert callback.history.outcome == "stopped"
    assert callback.history.stop_reason == f"asked in {hook}"


def test_a_stop_before_the_optimizer_step_skips_the_step() -> None:
    """The weights are those of the steps before, and the step is not counted."""
    module, reference = Regression(), Regression()
    optimizer = reference.configure_optimizers()
    reference.loss(next(iter(few()))).backward()
    optimizer.step()

    stops = Stops("step", 1)
    fit([stops], module=module, max_epochs=1)

    assert torch.nn.utils.parameters_to_vector(module.parameters()).equal(
        torch.nn.utils.parameters_to_vector(reference.parameters())
    )
    assert stops.loop.step == 1


def test_a_run_that_failed_is_not_rounded_off() -> None:
    """Straight to on_train_end: no validation is seen, and no row is in the history."""
    stops = Stops("batch_end", 1, failed=True)

    callback = fit([stops])

    assert stops.seen == ["train_begin", "epoch_begin", *BATCH * 2, "train_end"]
    assert (callback.history.outcome, callback.history.epoch) == ("failed", [])


def test_lightnings_min_epochs_come_first() -> None:
    """Lightning does not stop before; the request stays, and is heeded then."""
    callback = fit([Stops("epoch_end", 0)], min_epochs=2, max_epochs=5)

    assert callback.history.epoch == [0, 1]
    assert callback.history.outcome == "stopped"


# -- the learning rate -----------------------------------------------------------------------------


class Halves(Callback):
    """Halves the learning rate after each epoch, and notes the rate in force at each batch."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.said: list[str] = []

    def on_train_batch_begin(self, loop) -> None:
        self.rates.append(loop.lr)

    def on_epoch_end(self, loop) -> None:
        loop.set_lr(loop.lr / 2)

    def on_message(self, text) -> bool:
        self.said.append(text)
        return True


def scheduled(make: Any, interval: str) -> Regression:
    """Give the module with a scheduler that Lightning steps."""
    module = Regression()

    def configure_optimizers() -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": make(optimizer), "interval": interval},
        }

    module.configure_optimizers = configure_optimizers
    return module


def lambda_lr(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))


def one_cycle(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.5, total_steps=20, cycle_momentum=False
    )


def exponential(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)


def without_callback(make: Any, interval: str) -> list[float]:
    """Give the rate at each of 15 batches with the scheduler alone, in plain torch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler, rates = make(optimizer), []
    for batch in range(15):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if interval == "step" or batch % 5 == 4:
            scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("make", "interval"),
    [
        (lambda_lr, "step"),
        (lambda_lr, "epoch"),
        (one_cycle, "step"),
        (exponential, "step"),
        (exponential, "epoch"),
    ],
)
def test_a_rate_set_by_a_callback_is_composed_with_the_scheduler(make: Any, interval: str) -> None:
    """Each batch has the scheduler's rate times what callbacks made of it; nobody is told off."""
    halves = Halves()

    fit([halves], module=scheduled(make, interval))

    alone = without_callback(make, interval)
    assert halves.rates == pytest.approx([alone[i] / 2 ** (i // 5) for i in range(15)])
    assert halves.said == []


def test_a_rate_that_the_module_overwrites_is_said() -> None:
    """A module that sets the rate itself overwrites what a callback set: one line says so."""

    class Warms(Regression):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
            for group in optimizer.param_groups:
                group["lr"] = 0.01
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    halves = Halves()
    fit([halves], module=Warms())

    assert len(halves.said) == 1
    assert "overwritten with 0.01 by a scheduler or other code" in halves.said[0]
    assert "fix:" in halves.said[0]


# -- refusals --------------------------------------------------------------------------------------


def test_what_lightning_cannot_do_is_refused_before_the_first_step(tmp_path) -> None:
    """The sentence names the callback, the need, and the loops that can run it."""
    module = Regression()
    before = torch.nn.utils.parameters_to_vector(module.parameters()).clone()

    with pytest.raises(CapabilityError, match="backup_and_restore needs state, which Lightning"):
        fit([("backup_and_restore", {"backup_dir": tmp_path})], module=module)

    assert torch.nn.utils.parameters_to_vector(module.parameters()).equal(before)


def test_an_unknown_name_is_refused_when_the_bridge_is_made() -> None:
    """Nobody waits for training to learn of a typing mistake."""
    with pytest.raises(UnknownCallbackError, match="early_stopping"):
        trainer(["early_stoping"])


def test_a_policy_that_is_none_is_refused_when_the_bridge_is_made() -> None:
    """As the name of a callback."""
    with pytest.raises(ArgumentError, match="on_callback_error"):
        HookloopCallback([], on_callback_error="ignore")


def test_a_metric_of_validation_that_nothing_reports_has_a_fix_for_lightning() -> None:
    """A run without validation is told how to get it, in words of this framework."""
    with pytest.warns(UserWarning, match="early_stopping: 'val_loss' was") as caught:
        fit(["early_stopping"], limit_val_batches=0)

    [said] = [str(one.message) for one in caught if "was not reported" in str(one.message)]
    assert said.endswith(
        "\nfix: log it in validation_step, and pass val_dataloaders=, or monitor one of these"
    )
