"""What the callback does where reading a number waits: on an accelerator.

A tensor that says it is on one, and writes down when it is asked for and when it is waited for,
stands for it; the last test uses a real one where there is one.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hookloop_terminate_on_nan import TerminateOnNaN

from hookloop import Callback, Trainer, hookimpl

NAN = math.nan
EVENTS: list[str] = []


class OnDevice(torch.Tensor):
    """A 0-d tensor that is on an accelerator, as far as anybody can tell."""

    is_cpu = False
    device = torch.device("cuda", 0)
    batch = -1

    def to(self, *args: Any, **kwargs: Any) -> Any:
        assert (args, kwargs) == (("cpu",), {"non_blocking": True})
        EVENTS.append(f"ask {self.batch}")
        copy = self.as_subclass(Copied)
        Arrival.newest = copy.batch = self.batch
        return copy

    def detach(self) -> Any:
        return self

    def item(self) -> Any:
        raise AssertionError("the step waits for the device")


class Copied(torch.Tensor):
    """Its copy on the CPU, which is there when the event has been waited for."""

    batch = -1


class Arrival:
    """Stands for `torch.Event`."""

    newest = -1

    def __init__(self, device: torch.device) -> None:
        assert device.type == "cuda"

    def record(self, stream: torch.device) -> None:
        self.batch = Arrival.newest

    def synchronize(self) -> None:
        EVENTS.append(f"wait {self.batch}")


class Device(Callback):
    """Puts the loss of each batch on the device that is not there."""

    @hookimpl(tryfirst=True)
    def on_before_optimizer_step(self, logs: Any) -> None:
        loss = self.loop.loss.detach().clone().as_subclass(OnDevice)
        loss.batch = self.loop.batch
        dict.__setitem__(logs, "loss", loss)

    @hookimpl(tryfirst=True)
    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        logs["loss"] = self.loop.loss.item()  # for the mean of the epoch
        EVENTS.append(f"end {batch}")

    @hookimpl(trylast=True)
    def on_test_begin(self) -> None:
        EVENTS.append("test")

    @hookimpl(trylast=True)
    def on_epoch_end(self) -> None:
        EVENTS.append("epoch")

    @hookimpl(trylast=True)
    def on_train_end(self) -> None:
        EVENTS.append(str(self.loop.outcome))


class Saver(Callback):
    """Saves the weights every so many batches, and at the end of an epoch, if the run is sound."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.saved: list[torch.Tensor] = []

    def on_batch_checkpoint(self, batch: int) -> None:
        if (batch + 1) % self.every == 0:
            self.save()

    def on_epoch_checkpoint(self) -> None:
        self.save()

    def save(self) -> None:
        if not self.loop.failed:
            EVENTS.append("save")
            self.saved.append(self.model.weight.detach().clone())


@pytest.fixture(autouse=True)
def _device(monkeypatch: pytest.MonkeyPatch) -> None:
    EVENTS.clear()
    monkeypatch.setattr(torch, "Event", Arrival)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: device)


def fit(targets: list[float], *callbacks: Any, **options: Any) -> Trainer:
    """Train on one sample a batch, in order; a target that is not finite spoils its batch."""
    torch.manual_seed(0)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1", seed=0)
    x, y = torch.ones(len(targets), 1), torch.tensor(targets).reshape(-1, 1)
    quiet = {"batch_size": 1, "shuffle": False, "verbose": 0}
    trainer.fit((x, y), callbacks=[Device(), *callbacks], **quiet, **options)
    return trainer


def test_the_step_waits_for_nothing_of_its_own() -> None:
    """Each loss is looked at one step late, when the device has the next step to work on."""
    data = (torch.ones(1, 1), torch.ones(1, 1))
    fit([1, 1, 1], TerminateOnNaN(), validation_data=data)

    assert EVENTS == [
        "ask 0", "end 0",
        "wait 0", "ask 1", "end 1",
        "wait 1", "ask 2", "end 2",
        "wait 2", "test", "epoch", "finished",
    ]  # fmt: skip


def test_a_bad_loss_ends_the_run_one_step_late() -> None:
    """The step after the bad one is skipped; the line names the batch that was bad."""
    callback = TerminateOnNaN()
    trainer = fit([1, NAN, 1, 1], callback, epochs=2)

    assert EVENTS == [
        "ask 0", "end 0",
        "wait 0", "ask 1", "end 1",
        "wait 1", "end 2", "failed",
    ]  # fmt: skip
    assert trainer.history.stop_reason == "terminate_on_nan: loss is nan in epoch 0, batch 1"


def test_weights_that_went_bad_in_the_last_batch_are_not_evaluated() -> None:
    """Before evaluation it waits; neither validation nor the end of the epoch follows."""
    data = (torch.ones(1, 1), torch.ones(1, 1))
    trainer = fit([1, NAN], TerminateOnNaN(), validation_data=data)

    assert EVENTS[-3:] == ["end 1", "wait 1", "failed"]
    assert trainer.history.epoch == []


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("bad", range(4))
@pytest.mark.parametrize("first", [True, False], ids=["saver-first", "saver-last"])
def test_weights_that_went_bad_are_never_saved(every: int, bad: int, first: bool) -> None:
    """Wherever the saver stands and whenever it saves: asked for `failed`, the run knows."""
    saver, watch = Saver(every), TerminateOnNaN()
    targets = [NAN if index == bad else 1.0 for index in range(4)]
    trainer = fit(targets, *([saver, watch] if first else [watch, saver]))

    assert trainer.history.outcome == "failed"
    assert len(saver.saved) == bad // every
    assert all(torch.isfinite(weight).all() for weight in saver.saved)


def test_it_waits_in_a_step_only_where_a_saver_saves() -> None:
    """A saver that is not due does not make the step wait."""
    fit([1, 1, 1], TerminateOnNaN(), Saver(every=2))

    assert EVENTS[:8] == [
        "ask 0", "end 0",
        "wait 0", "ask 1", "end 1", "wait 1", "save",
        "ask 2",
    ]  # fmt: skip


def test_raise_error_raises_one_step_late() -> None:
    """The exception names the batch that was bad, not the one in which it was seen."""
    with pytest.raises(RuntimeError, match=r"NaN or Inf loss encountered at batch 1\. Loss value"):
        fit([1, NAN, 1, 1], TerminateOnNaN(raise_error=True))


def test_raise_error_raises_at_the_end_of_an_epoch() -> None:
    """Also where the last batch of the epoch was the bad one."""
    with pytest.raises(RuntimeError, match="at batch 1"):
        fit([1, NAN], TerminateOnNaN(raise_error=True))

    assert EVENTS[-1] == "failed"


def test_raise_error_lets_no_saver_save() -> None:
    """A saver that asks gets the exception."""
    saver = Saver(every=1)
    with pytest.raises(RuntimeError, match="at batch 1"):
        fit([1, NAN, 1], TerminateOnNaN(raise_error=True), saver)

    assert len(saver.saved) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_on_a_real_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends as failed, the bad batch named."""
    monkeypatch.undo()
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1", device="cuda")
    y = torch.tensor([[1.0], [NAN], [1.0], [1.0]])
    trainer.fit(
        (torch.ones(4, 1), y),
        batch_size=1,
        shuffle=False,
        callbacks=[TerminateOnNaN()],
        verbose=0,
    )

    assert trainer.history.stop_reason == "terminate_on_nan: loss is nan in epoch 0, batch 1"
