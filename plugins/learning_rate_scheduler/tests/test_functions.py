"""Schedules that are functions: how they are called, and what they may return."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hookloop_learning_rate_scheduler import LearningRateScheduler

from hookloop import Callback, CallbackList, Trainer, load
from hookloop.errors import CapabilityError, HookloopError, SettingError

DATA = (torch.ones(12, 1), torch.zeros(12, 1))


class Lines(Callback):
    """Keeps what is said to the user."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_message(self, text: str) -> bool:
        self.lines.append(text)
        return True


def trainer(lr: Any = 0.1, **more: Any) -> Trainer:
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return Trainer(model, loss="mse", optimizer=optimizer, seed=0, device="cpu", **more)


def rates(schedule: Any, epochs: int = 3, lr: float = 0.1, **settings: Any) -> list[float]:
    """The rate of each epoch."""
    callbacks = [LearningRateScheduler(schedule, **settings)]
    return trainer(lr).fit(DATA, epochs=epochs, callbacks=callbacks, verbose=0).history["lr"]


class Called:
    """An object with two methods that are schedules, and that counts its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, epoch: int) -> float:
        self.calls.append((epoch,))
        return 0.5

    def both(self, epoch: int, lr: float) -> float:
        self.calls.append((epoch, lr))
        return lr / 2


class Hidden:
    """Can be called, but nobody can tell how, as with some builtins."""

    __signature__ = "unknown"

    def __call__(self, epoch: int) -> int:
        return epoch + 1


def test_found_by_name() -> None:
    """load() makes it by its name, with a function or with text."""
    callback = load("learning_rate_scheduler", schedule=lambda epoch: 0.1, verbose=1)

    assert isinstance(callback, LearningRateScheduler)
    assert (callback.verbose, callback.on) == (1, "epoch")


def test_the_example_of_keras_ends_at_its_rate() -> None:
    """10 epochs as it is, then exp(-0.1) an epoch: 15 epochs from 0.01 end at 0.00607."""

    def scheduler(epoch: int, lr: float) -> float:
        if epoch < 10:
            return lr
        return lr * math.exp(-0.1)

    found = rates(scheduler, epochs=15, lr=0.01)

    assert found[:10] == [0.01] * 10
    assert round(found[-1], 5) == 0.00607


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        pytest.param(lambda epoch: 1 / (epoch + 1), [1, 0.5, 1 / 3], id="epoch"),
        pytest.param(lambda epoch, lr: lr / 2, [0.05, 0.025, 0.0125], id="epoch-and-rate"),
        pytest.param(lambda epoch, lr=None: lr / 2, [0.05, 0.025, 0.0125], id="with-a-default"),
        pytest.param(lambda *args: args[1] / 2, [0.05, 0.025, 0.0125], id="starred"),
        pytest.param(lambda epoch, *rest: len(rest), [1, 1, 1], id="one-and-starred"),
        pytest.param(lambda epoch, *, base=0.5: base, [0.5] * 3, id="keyword-only-default"),
        pytest.param(lambda epoch, **more: 0.5 + len(more), [0.5] * 3, id="keywords"),
        pytest.param({0: 0.5, 2: 0.25}.get, [0.5, 0.5, 0.25], id="dict.get-keeps-the-rate"),
        pytest.param([0.5, 0.25, 0.125].__getitem__, [0.5, 0.25, 0.125], id="list"),
        pytest.param(
            functools.partial(lambda base, epoch: base / (epoch + 1), 1.0),
            [1, 0.5, 1 / 3],
            id="partial-by-position",
        ),
        pytest.param(
            functools.partial(lambda epoch, base: base / (epoch + 1), base=1.0),
            [1, 0.5, 1 / 3],
            id="partial-by-name",
        ),
        pytest.param(Hidden(), [1.0, 2.0, 3.0], id="without-a-signature"),
    ],
)
def test_the_signature_decides_whether_the_rate_is_given(
    schedule: Callable[..., Any], expected: list[float]
) -> None:
    """One positional argument: the epoch; two, or a star: the present rate as well."""
    assert rates(schedule) == pytest.approx(expected)


@pytest.mark.parametrize("which", ["__call__", "both"])
def test_it_is_called_once_an_epoch(which: str) -> None:
    """Keras may call it twice. Objects that can be called and bound methods are functions, too."""
    called = Called()
    rates(called if which == "__call__" else called.both)

    epochs = [call[0] for call in called.calls]
    assert epochs == [0, 1, 2]
    assert {len(call) for call in called.calls} == {1 if which == "__call__" else 2}


def test_a_type_error_of_the_schedule_is_left_alone() -> None:
    """Keras takes it for a wrong number of arguments, and calls again."""
    calls = []

    def schedule(epoch: int, lr: float) -> float:
        calls.append(epoch)
        return lr * "half"  # type: ignore[operator]

    with pytest.raises(TypeError, match="multiply sequence"):
        rates(schedule)
    assert calls == [0]


@pytest.mark.parametrize(
    "schedule",
    [
        pytest.param(lambda: 0.1, id="none"),
        pytest.param(lambda epoch, lr, more: 0.1, id="three"),
        pytest.param(lambda epoch, *, base: 0.1, id="keyword-without-default"),
        pytest.param(lambda *, epoch: 0.1, id="keyword-only"),
    ],
)
def test_a_function_that_can_never_be_called_is_refused(schedule: Callable[..., Any]) -> None:
    """When the callback is made, not after the first batches."""
    with pytest.raises(SettingError, match=r"(?s)the schedule takes \(.*fix: write schedule\(epo"):
        LearningRateScheduler(schedule)


@pytest.mark.parametrize("schedule", [0.1, None, [0.1, 0.2]], ids=str)
def test_what_is_no_schedule_is_refused(schedule: Any) -> None:
    """A number or a list is answered with what can be given."""
    with pytest.raises(SettingError, match=r"(?s)schedule=.*fix: pass a function"):
        LearningRateScheduler(schedule)


@pytest.mark.parametrize(
    "value",
    [
        1,
        0,
        0.5,
        np.float32(0.5),
        np.float64(0.5),
        np.int64(1),
        np.array(0.5),
        torch.tensor(0.5),
        torch.tensor(1),
        torch.nn.Parameter(torch.tensor(0.5)),
        Fraction(1, 2),
        Decimal("0.5"),
    ],
    ids=repr,
)
def test_any_real_number_is_a_rate(value: Any) -> None:
    """Python's, NumPy's and torch's; Keras takes floats alone."""
    found = rates(lambda epoch: value, epochs=1)

    assert found == [float(value.item() if hasattr(value, "item") else value)]
    assert type(found[0]) is float


@pytest.mark.parametrize(
    "value",
    [
        None, "0.1", True, -0.1, float("nan"), float("inf"), 10**400, 1j, [0.1], {"lr": 0.1},
        np.array([0.1]), np.bool_(True), torch.tensor([0.1]), torch.tensor(float("nan")),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_anything_else_is_named_with_its_epoch(value: Any) -> None:
    """Who returned what, when, and what to return."""
    with pytest.raises(SettingError, match=r"(?s)returned .* for epoch 0\..*fix: return a finite"):
        rates(lambda epoch: value)


def test_the_rate_is_set_before_the_first_batch() -> None:
    """Every batch of an epoch trains with the rate of that epoch."""
    seen = []

    class See(Callback):
        def on_train_batch_begin(self) -> None:
            seen.append(self.loop.lr)

    callbacks = [See(), LearningRateScheduler(lambda epoch: 1 / (epoch + 1))]
    trainer().fit(DATA, epochs=2, batch_size=6, callbacks=callbacks, verbose=0)

    assert seen == [1.0, 1.0, 0.5, 0.5]


def test_all_groups_keep_their_ratio() -> None:
    """The rate is that of the first group."""
    model = torch.nn.Linear(1, 1)
    groups = [{"params": [model.weight], "lr": 0.4}, {"params": [model.bias], "lr": 0.1}]
    run = Trainer(model, loss="mse", optimizer=torch.optim.SGD(groups), device="cpu")
    run.fit(DATA, callbacks=[LearningRateScheduler(lambda epoch: 0.8)], verbose=0)

    assert [group["lr"] for group in run.optimizer.param_groups] == pytest.approx([0.8, 0.2])


def test_a_rate_that_is_a_tensor_stays_one() -> None:
    """Optimizers that are captured or compiled keep their rate in a tensor."""
    rate = torch.tensor(0.1)
    run = trainer(rate)
    run.fit(DATA, callbacks=[LearningRateScheduler(lambda epoch, lr: lr / 2)], verbose=0)

    assert run.optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(0.05)


def test_verbose_says_what_keras_says() -> None:
    """One line an epoch, counted from 1."""
    lines = Lines()
    callback = LearningRateScheduler(lambda epoch: 0.5**epoch, verbose=1)
    trainer().fit(DATA, epochs=2, callbacks=[callback, lines], verbose=0)

    assert lines.lines == [
        "Epoch 1: LearningRateScheduler setting learning rate to 1.",
        "Epoch 2: LearningRateScheduler setting learning rate to 0.5.",
    ]


def test_a_loop_without_an_optimizer_is_refused_before_training() -> None:
    """Where there is no rate it says so when the run starts."""
    callbacks = CallbackList([LearningRateScheduler(lambda epoch: 0.1)], model=None)

    with pytest.raises(CapabilityError, match="no optimizer"):
        callbacks.on_train_begin()


@pytest.mark.parametrize("setting", ["on='step'", "on='Epoch'"])
def test_an_unknown_pace_is_refused(setting: str) -> None:
    """There is "epoch" and "batch"."""
    with pytest.raises(HookloopError, match="on='"):
        load(f"learning_rate_scheduler:schedule=cosine:T_max=3,{setting}")


# -- by batches ----------------------------------------------------------------------------------


def test_by_batches_the_function_gets_the_number_of_steps() -> None:
    """From 0 on over the whole run, before the step that uses the rate."""
    called = Called()
    callback = LearningRateScheduler(called, on="batch")
    trainer().fit(DATA, epochs=2, batch_size=4, callbacks=[callback], verbose=0)

    assert called.calls == [(0,), (1,), (2,), (3,), (4,), (5,)]


def test_by_batches_the_rate_is_given_too() -> None:
    """The log of the epoch has the rate of its last step."""
    callback = LearningRateScheduler(lambda step, lr: lr / 2, on="batch")
    history = trainer(0.8).fit(DATA, epochs=2, batch_size=6, callbacks=[callback], verbose=0)

    assert history.history["lr"] == pytest.approx([0.2, 0.05])


def test_with_accumulation_it_is_called_once_an_optimizer_step() -> None:
    """Not once a micro-batch: three windows, the last one short."""
    called = Called()
    callback = LearningRateScheduler(called, on="batch")
    trainer(accumulate=2).fit(DATA, batch_size=3, callbacks=[callback], verbose=0, epochs=2)

    assert called.calls == [(0,), (1,), (2,), (3,)]


def test_by_batches_verbose_says_the_rate_of_the_first_step_of_an_epoch() -> None:
    """A line a step would be no help to anybody."""
    lines = Lines()
    callback = LearningRateScheduler(lambda step: 1 / (step + 1), verbose=1, on="batch")
    trainer().fit(DATA, epochs=2, batch_size=6, callbacks=[callback, lines], verbose=0)

    assert [line.rpartition(" ")[2] for line in lines.lines] == ["1.", "0.333333."]


# -- beside others -------------------------------------------------------------------------------


class Lower(Callback):
    """Lowers the rate at the end of each epoch, as reduce_lr_on_plateau does."""

    def on_epoch_end(self) -> None:
        self.loop.set_lr(self.loop.lr / 2, by="lower", relative=True)


@pytest.mark.parametrize(
    "schedule",
    [lambda epoch, lr: lr, lambda epoch, lr: lr * 0.9],
    ids=["unchanged", "lowered-further"],
)
def test_a_schedule_that_builds_on_the_rate_overwrites_nobody(
    schedule: Callable[..., float],
) -> None:
    """Both lower the rate, each from what the other left: nothing to say."""
    lines = Lines()
    callbacks = [LearningRateScheduler(schedule), Lower(), lines]
    trainer().fit(DATA, epochs=4, callbacks=callbacks, verbose=0)

    assert lines.lines == []


@pytest.mark.parametrize(
    "schedule",
    [lambda epoch: 0.1, lambda epoch, lr: 0.1],
    ids=["of-the-epoch", "given-the-rate"],
)
def test_a_schedule_that_undoes_what_another_did_is_named_once(
    schedule: Callable[..., float],
) -> None:
    """One line for the run, with both names."""
    lines = Lines()
    callbacks = [LearningRateScheduler(schedule), Lower(), lines]
    trainer().fit(DATA, epochs=4, callbacks=callbacks, verbose=0)

    assert [line.splitlines()[0] for line in lines.lines] == [
        "The learning rate was set to 0.05 by lower and overwritten with 0.1 by "
        "learning_rate_scheduler."
    ]


@pytest.mark.parametrize("first", [True, False])
def test_the_log_has_the_rate_in_force_during_the_epoch(first: bool) -> None:
    """Wherever it stands beside somebody who logs `lr`, and lowers it afterwards."""

    class Plateau(Lower):
        def on_epoch_end(self, logs: dict[str, Any]) -> None:
            logs.setdefault("lr", self.loop.lr)
            super().on_epoch_end()

    callbacks = [LearningRateScheduler(lambda epoch, lr: lr), Plateau()]
    history = trainer(0.8).fit(
        DATA, epochs=3, callbacks=callbacks if first else callbacks[::-1], verbose=0
    )

    assert history.history["lr"] == pytest.approx([0.8, 0.4, 0.2])
