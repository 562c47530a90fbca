"""What the callback does where reading a number is cheap: on the CPU."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop_terminate_on_nan import TerminateOnNaN
from hookloop_terminate_on_nan._finding import are_finite

from hookloop import Callback, CallbackList, Trainer, load
from hookloop.errors import SettingError

NAN, INF = math.nan, math.inf


class Seen(Callback):
    """Keeps what happened, in order, and what was said to the user."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.lines: list[str] = []
        self.failed: list[bool] = []

    def on_train_batch_end(self, batch: int) -> None:
        self.events.append(f"batch {batch}")

    def on_batch_checkpoint(self) -> None:
        self.failed.append(self.loop.failed)

    def on_test_begin(self) -> None:
        self.events.append("test")

    def on_epoch_end(self, epoch: int) -> None:
        self.events.append(f"epoch {epoch}")

    def on_exception(self) -> None:
        self.events.append("exception")

    def on_train_end(self) -> None:
        self.events.append(str(self.loop.outcome))

    def on_message(self, text: str) -> bool:
        self.lines.append(text)
        return True


def fit(
    targets: list[float], callback: Any, *, others: Any = (), accumulate: int = 1, **options: Any
) -> tuple[Trainer, Seen]:
    """Train on one sample a batch, in order; a target that is not finite spoils its batch."""
    torch.manual_seed(0)
    seen = Seen()
    trainer = Trainer(
        torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1", seed=0, accumulate=accumulate
    )
    x, y = torch.ones(len(targets), 1), torch.tensor(targets).reshape(-1, 1)
    trainer.fit(
        (x, y),
        batch_size=1,
        shuffle=False,
        callbacks=[*others, callback, seen],
        verbose=0,
        **options,
    )
    return trainer, seen


def test_found_by_name() -> None:
    """load() makes it by its name, with settings."""
    callback = load("terminate_on_nan:raise_error=true,metrics=val_loss")

    assert isinstance(callback, TerminateOnNaN)
    assert (callback.raise_error, callback.names) == (True, ("loss", "val_loss"))


@pytest.mark.parametrize("metrics", [[3], [""], [None]])
def test_metrics_that_are_no_names_are_refused(metrics: Any) -> None:
    """What could never be found in the logs is refused when it is given."""
    with pytest.raises(SettingError, match=r"fix: names as in the logs"):
        TerminateOnNaN(metrics=metrics)


@pytest.mark.parametrize("bad", [NAN, INF, -INF], ids=["nan", "inf", "minus-inf"])
def test_a_loss_that_is_not_finite_ends_the_run_as_failed(bad: float) -> None:
    """No further batch, no validation, no end of the epoch; and it is said as Keras says it."""
    data = (torch.ones(1, 1), torch.ones(1, 1))
    trainer, seen = fit([1, 1, bad, 1], TerminateOnNaN(), epochs=3, validation_data=data)

    assert seen.events == ["batch 0", "batch 1", "batch 2", "failed"]
    assert seen.lines == ["Batch 2: Invalid loss, terminating training"]
    assert (trainer.history.outcome, trainer.history.epoch) == ("failed", [])
    assert trainer.history.stop_reason == (
        f"terminate_on_nan: loss is {'nan' if bad is NAN else 'inf'} in epoch 0, batch 2"
    )


def test_the_bad_step_is_skipped() -> None:
    """The weights are those after the last good batch."""
    trainer, _ = fit([1, 1, NAN, 1], TerminateOnNaN())
    good, _ = fit([1, 1], TerminateOnNaN())

    assert torch.equal(trainer.module.weight, good.module.weight)
    assert torch.isfinite(trainer.module.weight).all()


def test_savers_are_told() -> None:
    """loop.failed is False after good batches, and True in the checkpoint hook of the bad one."""
    _, seen = fit([1, 1, NAN, 1], TerminateOnNaN())

    assert seen.failed == [False, False, True]


class Overflow(torch.nn.Module):
    """A model whose loss is finite while its gradients are not: that of a root at 0 is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.linear(x)
        return out + torch.sqrt(0 * out)


class Saves(Callback):
    """Saves the weights after each epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_epoch_checkpoint(self) -> None:
        torch.save(self.model.state_dict(), self.path)


@pytest.mark.parametrize(
    ("weights", "finite"),
    [
        ([3e38, 3e38], True),
        ([1.0, NAN], False),
        ([INF, 1.0], False),
        ([INF, -INF], False),
        ([1j, complex(0, INF)], False),
        ([1, 2], True),
        ([], True),
    ],
)
def test_weights_are_finite_whatever_their_sum_is(weights: list[Any], finite: bool) -> None:
    """Large ones may have a sum that is not."""
    assert are_finite([torch.ones(2), torch.tensor(weights)]) is finite


@pytest.mark.parametrize(("value", "finite"), [(1.0, True), (INF, False), (NAN, False)])
def test_types_that_cannot_be_added_up_are_looked_at_too(value: float, finite: bool) -> None:
    """Torch has no sum of them."""
    assert are_finite([torch.tensor([1.0, value]).to(torch.float8_e5m2)]) is finite


def test_weights_that_a_finite_loss_has_spoilt_are_neither_evaluated_nor_saved(
    tmp_path: Path,
) -> None:
    """The loss of the last batch is finite, and the step after it leaves NaN in the weights."""
    seen = Seen()
    trainer = Trainer(Overflow(), loss="mse", optimizer="sgd:lr=0.1", seed=0)
    data = (torch.ones(4, 1), torch.ones(4, 1))
    chosen = ["terminate_on_nan", Saves(tmp_path / "last.pt"), seen]
    history = trainer.fit(data, validation_data=data, callbacks=chosen, epochs=2, verbose=0)

    assert not torch.isfinite(trainer.module.linear.weight).any()
    assert seen.events == ["batch 0", "failed"]
    assert seen.lines == ["Batch 0: Invalid weights, terminating training"]
    assert history.stop_reason == "terminate_on_nan: weights are not finite in epoch 0, batch 0"
    assert not (tmp_path / "last.pt").exists()


def test_raise_error_raises_what_keras_raises() -> None:
    """With raise_error the run ends with a RuntimeError that names batch and value."""
    seen = Seen()
    with pytest.raises(RuntimeError) as caught:
        fit([1, NAN, 1], TerminateOnNaN(raise_error=True), others=[seen])

    assert str(caught.value) == (
        "NaN or Inf loss encountered at batch 1. Loss value: nan. Terminating training immediately."
    )
    assert seen.events == ["batch 0", "exception", "failed"]


def test_a_bad_micro_batch_spoils_its_window() -> None:
    """With gradient accumulation the window that a bad micro-batch is part of makes no step."""
    trainer, seen = fit([1, 1, NAN, 1], TerminateOnNaN(), accumulate=2)
    good, _ = fit([1, 1], TerminateOnNaN(), accumulate=2)

    assert seen.events == ["batch 0", "batch 1", "batch 2", "failed"]
    assert torch.equal(trainer.module.weight, good.module.weight)


class Reports(Callback):
    """Reports a number of its own at the end of a batch, or of an epoch."""

    def __init__(self, batch: float | None = None, epoch: float | None = None) -> None:
        self.of_batch, self.of_epoch = batch, epoch

    def on_train_batch_end(self, logs: dict[str, Any]) -> None:
        if self.of_batch is not None:
            logs["norm"] = self.of_batch

    def on_epoch_end(self, logs: dict[str, Any]) -> None:
        if self.of_epoch is not None:
            logs["norm"] = self.of_epoch


@pytest.mark.parametrize(
    ("report", "line"),
    [
        pytest.param(Reports(batch=NAN), "Batch 0: Invalid norm, terminating training", id="batch"),
        pytest.param(Reports(epoch=INF), "Epoch 0: Invalid norm, terminating training", id="epoch"),
    ],
)
def test_metrics_that_are_named_are_looked_at(report: Reports, line: str) -> None:
    """Also those that a callback reports at the end of a batch or of an epoch."""
    trainer, seen = fit([1, 1], TerminateOnNaN(metrics=["norm"]), others=[report], epochs=2)

    assert (seen.lines, trainer.history.outcome) == ([line], "failed")


def test_a_metric_of_the_batch_is_looked_at_before_the_step() -> None:
    """What the trainer measures is known then, so that the step is skipped."""

    def broken(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.tensor(NAN)

    x, y = torch.ones(2, 1), torch.ones(2, 1)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1", metrics=[broken])
    before = trainer.module.weight.clone()
    trainer.fit((x, y), callbacks=[TerminateOnNaN(metrics=["broken"]), Seen()], verbose=0)

    assert torch.equal(trainer.module.weight, before)


def test_metrics_that_are_not_named_do_not_matter() -> None:
    """A metric may be NaN in a sound run, such as a recall without positives."""
    trainer, _ = fit([1, 1], TerminateOnNaN(), others=[Reports(batch=NAN)])

    assert trainer.history.outcome == "finished"


def test_val_loss_can_be_named() -> None:
    """A validation that gives NaN ends the run, if it was asked to look."""
    data = (torch.ones(1, 1), torch.tensor([[NAN]]))
    trainer, seen = fit([1], TerminateOnNaN(metrics=["val_loss"]), epochs=3, validation_data=data)

    assert seen.lines == ["Epoch 0: Invalid val_loss, terminating training"]
    assert trainer.history.epoch == [0]


def test_an_array_with_one_bad_element_is_bad() -> None:
    """A value of several numbers is looked at whole."""
    callbacks = CallbackList([TerminateOnNaN(metrics=["norms"]), Seen()], model=None)
    callbacks.on_train_begin()
    callbacks.on_train_batch_end(0, {"loss": 1.0, "norms": torch.tensor([1.0, -INF])})

    assert callbacks.loop.failed


def test_a_metric_that_nobody_reports_is_said_once() -> None:
    """A misspelt name does not stay unnoticed."""
    with pytest.warns(UserWarning, match=r"(?s)accuracy was not reported.*reported: loss") as found:
        fit([1], TerminateOnNaN(metrics=["accuracy"]), epochs=3)

    assert len(found) == 1


def test_a_run_that_was_stopped_before_its_first_batch_is_not_blamed() -> None:
    """Without batches there is no loss, and nothing to say."""

    class Stop(Callback):
        def on_epoch_begin(self) -> None:
            self.loop.stop("no reason")

    trainer, _ = fit([1], TerminateOnNaN(), others=[Stop()])

    assert trainer.history.outcome == "stopped"


def test_it_works_with_the_hooks_of_batches_alone() -> None:
    """A loop that calls no on_before_optimizer_step is stopped at the end of the bad batch."""
    callbacks = CallbackList([TerminateOnNaN(), Seen()], model=None)
    callbacks.on_train_begin()
    stops = []
    for batch, loss in enumerate([1.0, torch.tensor(NAN)]):
        callbacks.on_train_batch_end(batch, {"loss": loss})
        stops.append(callbacks.loop.stop_training)

    assert stops == [False, True]


def test_it_works_with_the_hooks_of_epochs_alone() -> None:
    """Where only epochs are reported, their loss decides."""
    callbacks = CallbackList([TerminateOnNaN(), Seen()], model=None)
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0, {"loss": NAN})

    assert callbacks.loop.failed


def test_a_second_fit_begins_afresh() -> None:
    """What one run found says nothing about the next."""
    callback = TerminateOnNaN()
    fit([NAN], callback)
    trainer, _ = fit([1, 1], callback)

    assert trainer.history.outcome == "finished"


def decisions(losses: list[float], settings: dict[str, Any]) -> tuple[int | None, str | None]:
    """Give the batch after which training ends, and what is said or raised.

    A pure function of its arguments, so that results of another implementation can be compared.
    """
    seen = Seen()
    callbacks = CallbackList([TerminateOnNaN(**settings), seen], model=None)
    callbacks.on_train_begin()
    for batch, loss in enumerate(losses):
        try:
            callbacks.on_train_batch_end(batch, {"loss": loss})
        except RuntimeError as error:
            return batch, str(error)
        if callbacks.loop.stop_training:
            return batch, seen.lines[0]
    return None, None


@pytest.mark.parametrize(
    ("losses", "settings", "expected"),
    [
        pytest.param([1, 2, 0], {}, (None, None), id="finite"),
        pytest.param([1e308, 5e-324], {}, (None, None), id="extremes"),
        pytest.param([1, NAN], {}, (1, "Batch 1: Invalid loss, terminating training"), id="nan"),
        pytest.param(
            [-INF],
            {"raise_error": True},
            (
                0,
                "NaN or Inf loss encountered at batch 0. Loss value: -inf. "
                "Terminating training immediately.",
            ),
            id="raise",
        ),
    ],
)
def test_where_training_ends(losses: list[float], settings: dict[str, Any], expected: Any) -> None:
    """The batch and the words are Keras's."""
    assert decisions(losses, settings) == expected
