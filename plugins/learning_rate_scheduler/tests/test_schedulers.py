"""Schedulers of torch: chosen, stepped as by hand, and gone on with after a restart."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop_learning_rate_scheduler import LearningRateScheduler
from hookloop_learning_rate_scheduler._names import NAMES
from torch.optim import lr_scheduler

from hookloop import Callback, CallbackList, Trainer, load
from hookloop.checkpoints import save_state
from hookloop.errors import MonitorError, SettingError

DATA = (torch.linspace(-1, 1, 12).reshape(-1, 1), torch.zeros(12, 1))
#: Every name with settings, and torch's own class with the same.
ALL: dict[str, Callable[[Any], Any]] = {
    "step:step_size=2,gamma=0.5": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "multistep:milestones=[2,4],gamma=0.5": lambda o: lr_scheduler.MultiStepLR(o, [2, 4], 0.5),
    "exponential:gamma=0.9": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "cosine:T_max=10": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "cosine_warm_restarts:T_0=5": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5),
    "linear": lr_scheduler.LinearLR,
    "constant": lr_scheduler.ConstantLR,
    "polynomial:total_iters=8,power=2": lambda o: lr_scheduler.PolynomialLR(o, 8, 2),
    "onecycle:max_lr=0.5,total_steps=100": lambda o: lr_scheduler.OneCycleLR(o, 0.5, 100),
    "cyclic:base_lr=0.1,max_lr=0.5,step_size_up=3": lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.5, 3),
}


class Lines(Callback):
    """Keeps what is said to the user."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_message(self, text: str) -> bool:
        self.lines.append(text)
        return True


class Rates(Callback):
    """Keeps the rate of each batch, which its step is made with."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_before_optimizer_step(self) -> None:
        self.found.append(self.loop.lr)


class Report(Callback):
    """Reports the given values as a metric, one an epoch."""

    def __init__(self, values: list[float], name: str = "val_loss") -> None:
        self.values, self.metric = values, name

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        logs[self.metric] = self.values[epoch]


def trainer(lr: float = 0.4, seed: int = 0, accumulate: int = 1) -> Trainer:
    torch.manual_seed(seed)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return Trainer(
        model, loss="mse", optimizer=optimizer, seed=0, device="cpu", accumulate=accumulate
    )


def fit(run: Trainer, *callbacks: Any, epochs: int = 6, **more: Any) -> Any:
    return run.fit(DATA, epochs=epochs, batch_size=4, callbacks=list(callbacks), verbose=0, **more)


def by_hand(make: Callable[[Any], Any], count: int, lr: float = 0.4) -> list[float]:
    """The rates of so many steps of a loop that steps the scheduler after each."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
    scheduler, found = make(optimizer), []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_every_name_is_tried_here() -> None:
    """The closed table has no name that the tests leave out."""
    assert {text.partition(":")[0] for text in ALL} == set(NAMES) - {"plateau"}


@pytest.mark.parametrize("text", ALL)
def test_by_name_and_epoch_the_rates_are_those_of_a_loop_by_hand(text: str) -> None:
    """Stepped once after each epoch; the history has the rate that the epoch trained with."""
    rates = Rates()
    history = fit(trainer(), LearningRateScheduler(text), rates)

    assert history.history["lr"] == by_hand(ALL[text], 6)
    assert rates.found == [rate for rate in history.history["lr"] for _ in range(3)]


@pytest.mark.parametrize("text", ALL)
def test_by_name_and_batch_the_rates_are_those_of_a_loop_by_hand(text: str) -> None:
    """Stepped once after each optimizer step; the history has the rate of an epoch's last step."""
    rates = Rates()
    history = fit(trainer(), LearningRateScheduler(text, on="batch"), rates)

    assert rates.found == by_hand(ALL[text], 18)
    assert history.history["lr"] == rates.found[2::3]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(functools.partial(lr_scheduler.StepLR, step_size=2, gamma=0.5), id="partial"),
        pytest.param(lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.5), id="function"),
        pytest.param(lr_scheduler.LinearLR, id="class"),
        pytest.param(
            lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch),
            id="of-a-lambda",
        ),
        pytest.param(
            lambda optimizer: lr_scheduler.SequentialLR(
                optimizer,
                [
                    lr_scheduler.LinearLR(optimizer, total_iters=2),
                    lr_scheduler.MultiStepLR(optimizer, [1, 2]),
                ],
                [2],
            ),
            id="sequence",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_a_callable_of_the_optimizer_makes_one(make: Callable[[Any], Any]) -> None:
    """Its first parameter is called optimizer, which tells it from a function of the epoch."""
    history = fit(trainer(), LearningRateScheduler(make))

    assert history.history["lr"] == by_hand(make, 6)


def test_an_instance_is_stepped() -> None:
    """One that was made with the optimizer of the run."""
    run = trainer()
    history = fit(run, LearningRateScheduler(lr_scheduler.ExponentialLR(run.optimizer, 0.5)))

    assert history.history["lr"] == by_hand(lambda o: lr_scheduler.ExponentialLR(o, 0.5), 6)


def test_an_instance_of_another_optimizer_is_refused_before_training() -> None:
    """It would change rates that nobody uses."""
    scheduler = lr_scheduler.ExponentialLR(trainer().optimizer, 0.5)

    with pytest.raises(SettingError, match=r"(?s)ExponentialLR is of another optimizer.*fix: "):
        fit(trainer(), LearningRateScheduler(scheduler))


def test_a_callable_that_makes_something_else_is_refused_before_training() -> None:
    """Said with what it made."""
    with pytest.raises(SettingError, match=r"(?s)made a float of the optimizer.*fix: "):
        fit(trainer(), LearningRateScheduler(lambda optimizer: 0.1))


def test_as_text_it_is_chosen_with_its_settings() -> None:
    """A value with commas stands in quotes; without commas none are needed."""
    quoted = load("learning_rate_scheduler:schedule='step:step_size=2,gamma=0.5',on=batch")
    bare = load("learning_rate_scheduler:schedule=cosine:T_max=10")

    assert (quoted.schedule, quoted.on) == ("step:step_size=2,gamma=0.5", "batch")
    assert bare.schedule == "cosine:T_max=10"


@pytest.mark.parametrize("name", ["OneCycle", "one_cycle", "one-cycle", "ONECYCLE"])
def test_names_compare_loosely(name: str) -> None:
    """As the names of callbacks do."""
    fit(trainer(), LearningRateScheduler(f"{name}:max_lr=0.1,total_steps=100"), epochs=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cosin:T_max=3", r"no scheduler is called 'cosin'\. Did you mean 'cosine'\?"),
        ("cosine:t_max=3", r"CosineAnnealingLR has no setting 't_max'\. Did you mean 'T_max'\?"),
        ("cosine", r"CosineAnnealingLR refused its settings: .*T_max"),
        ("cosine:3", r"'3' in 'cosine:3' is no setting"),
        ("step:step_size=2,last_epoch=3", "no setting 'last_epoch'"),
        ("onecycle:max_lr=0.1", "OneCycleLR refused its settings"),
        ("plateau:factor=2", "ReduceLROnPlateau refused its settings"),
    ],
)
def test_a_wrong_text_is_refused_when_the_callback_is_made(text: str, said: str) -> None:
    """Named, with what was meant or what there is."""
    with pytest.raises(SettingError, match=f"(?s){said}.*fix: "):
        LearningRateScheduler(text)


def test_what_an_optimizer_cannot_do_is_refused_before_training() -> None:
    """A cycle of the momentum needs an optimizer that has one."""
    model = torch.nn.Linear(1, 1)
    run = Trainer(model, loss="mse", optimizer="adagrad:lr=0.1", device="cpu")

    with pytest.raises(SettingError, match=r"(?s)OneCycleLR refused its settings: .*momentum"):
        fit(run, LearningRateScheduler("onecycle:max_lr=0.1,total_steps=9"))


def test_a_cycle_that_is_over_stays_at_its_end() -> None:
    """torch raises in the middle of training; here it is said once."""
    lines, rates = Lines(), Rates()
    callback = LearningRateScheduler("onecycle:max_lr=0.5,total_steps=6", on="batch")
    fit(trainer(), callback, rates, lines, epochs=4)

    assert rates.found[:6] == by_hand(lambda o: lr_scheduler.OneCycleLR(o, 0.5, 6), 6)
    assert rates.found[6:] == [rates.found[5]] * 6
    assert [line.splitlines()[0] for line in lines.lines] == [
        "learning_rate_scheduler: the 6 steps of the cycle are over; the learning rate stays at "
        "2e-06."
    ]


def test_a_cycle_of_the_length_of_the_run_says_nothing() -> None:
    """The step after the last one is everybody's."""
    lines = Lines()
    callback = LearningRateScheduler("onecycle:max_lr=0.5,total_steps=6", on="batch")
    fit(trainer(), callback, lines, epochs=2)

    assert lines.lines == []


def test_verbose_says_the_rate_with_which_each_epoch_begins() -> None:
    """As for functions."""
    lines = Lines()
    fit(trainer(), LearningRateScheduler("exponential:gamma=0.5", verbose=1), lines, epochs=2)

    assert lines.lines == [
        "Epoch 1: LearningRateScheduler setting learning rate to 0.4.",
        "Epoch 2: LearningRateScheduler setting learning rate to 0.2.",
    ]


def test_with_accumulation_it_is_stepped_once_an_optimizer_step() -> None:
    """Also for the window that the end of the epoch cuts, where the length is not known."""
    batches = [(DATA[0][:4], DATA[1][:4])] * 3

    class Unknown:
        def __iter__(self) -> Any:
            return iter(batches)

    rates = Rates()
    callback = LearningRateScheduler("exponential:gamma=0.5", on="batch")
    history = trainer(accumulate=2).fit(Unknown(), epochs=2, callbacks=[callback, rates], verbose=0)

    assert rates.found == [0.4, 0.2, 0.1, 0.05]
    assert history.history["lr"] == [0.2, 0.05]


def test_an_epoch_that_a_stop_has_emptied_brings_no_warning() -> None:
    """torch would ask for an optimizer step before the scheduler's."""

    class Stop(Callback):
        def on_epoch_begin(self) -> None:
            self.loop.stop("enough")

    assert fit(trainer(), Stop(), LearningRateScheduler("linear")).outcome == "stopped"


def test_a_second_fit_begins_a_new_schedule_at_the_rate_in_force() -> None:
    """A scheduler by name is of one run."""
    run, callback = trainer(), LearningRateScheduler("exponential:gamma=0.5")
    fit(run, callback, epochs=2)
    history = fit(run, callback, epochs=2)

    assert history.history["lr"] == [0.1, 0.05]


# -- metrics -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "metric", "values", "expected"),
    [
        ("plateau:patience=0,factor=0.5", "val_loss", [3, 3, 2, 2], [0.4, 0.4, 0.2, 0.2]),
        ("plateau:patience=0,factor=0.5", "val_acc", [1, 2, 3, 3], [0.4, 0.4, 0.4, 0.4]),
        ("plateau:patience=0,factor=0.5,mode=max", "score_x", [2, 1, 1], [0.4, 0.4, 0.2]),
        ("plateau:patience=0,factor=0.5,mode=min", "val_acc", [1, 2, 3], [0.4, 0.4, 0.2]),
    ],
    ids=["val_loss", "direction-by-name", "max", "direction-as-told"],
)
def test_a_plateau_is_stepped_with_its_metric(
    text: str, metric: str, values: list[float], expected: list[float]
) -> None:
    """Of the epoch, from whoever reports it; the direction is told, or found as monitors do."""
    callback = LearningRateScheduler(text, monitor=None if metric == "val_loss" else metric)
    history = fit(trainer(), Report(values, metric), callback, epochs=len(values))

    assert history.history["lr"] == expected


def test_a_plateau_as_an_instance_is_stepped_with_its_metric() -> None:
    """It has its own direction."""
    run = trainer()
    plateau = lr_scheduler.ReduceLROnPlateau(run.optimizer, "max", 0.5, patience=0)
    callback = LearningRateScheduler(plateau, monitor="score_x")
    history = fit(run, Report([2, 1, 1], "score_x"), callback, epochs=3)

    assert history.history["lr"] == [0.4, 0.4, 0.2]


def test_without_the_metric_the_rate_stays_and_it_is_said() -> None:
    """Such epochs do not count."""
    with pytest.warns(UserWarning, match="'val_loss' was (not|never) reported"):
        history = fit(trainer(), LearningRateScheduler("plateau:patience=0"), epochs=3)

    assert history.history["lr"] == [0.4, 0.4, 0.4]


def test_a_metric_without_a_direction_is_refused_before_training() -> None:
    """As everywhere."""
    with pytest.raises(MonitorError, match=r"(?s)'wombats'.*mode='min' or mode='max'"):
        fit(trainer(), LearningRateScheduler("plateau", monitor="wombats"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedule": "cosine:T_max=3", "monitor": "loss"}, "CosineAnnealingLR takes no metric"),
        ({"schedule": lambda epoch: 0.1, "monitor": "loss"}, "a function takes no metric"),
        ({"schedule": "plateau", "on": "batch"}, "takes a metric of the epoch, but on='batch'"),
    ],
    ids=["no-plateau", "function", "by-batch"],
)
def test_a_metric_where_none_is_used_is_refused(settings: dict[str, Any], said: str) -> None:
    """When the callback is made."""
    with pytest.raises(SettingError, match=f"(?s){said}.*fix: "):
        LearningRateScheduler(**settings)


# -- beside others -------------------------------------------------------------------------------


class Halve(Callback):
    """Halves the rate at the end of one epoch."""

    def on_epoch_end(self, epoch: int) -> None:
        if epoch == 1:
            self.loop.set_lr(self.loop.lr / 2, by="halve", relative=True)


@pytest.mark.parametrize("text", ["exponential:gamma=0.9", "step:step_size=1", "cosine:T_max=20"])
def test_a_scheduler_that_builds_on_the_rate_overwrites_nobody(text: str) -> None:
    """These multiply the rate that they find."""
    lines = Lines()
    fit(trainer(), LearningRateScheduler(text), Halve(), lines)

    assert lines.lines == []


@pytest.mark.parametrize(
    "schedule",
    [
        "cosine_warm_restarts:T_0=20",
        lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda _: 1),
    ],
    ids=["by-name", "callable"],
)
def test_a_scheduler_that_undoes_what_another_did_is_named_once(schedule: Any) -> None:
    """These compute the rate from the epoch alone."""
    lines = Lines()
    fit(trainer(), LearningRateScheduler(schedule), Halve(), lines)

    assert len(lines.lines) == 1
    assert "by halve and overwritten" in lines.lines[0]
    assert "by learning_rate_scheduler" in lines.lines[0]


def test_in_a_loop_of_ones_own() -> None:
    """CallbackList steps it; the loop steps the optimizer."""
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    chosen = ["learning_rate_scheduler:schedule=exponential:gamma=0.5,on=batch"]
    callbacks = CallbackList(chosen, model=model, optimizer=optimizer)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for batch in range(3):
        callbacks.on_train_batch_begin(batch)
        optimizer.step()
        callbacks.on_train_batch_end(batch)
    callbacks.on_epoch_end(0, logs := {})
    callbacks.on_train_end()

    assert logs["lr"] == 0.1
    assert optimizer.param_groups[0]["lr"] == 0.05


# -- restarts ------------------------------------------------------------------------------------


class Save(Callback):
    """Saves the state of the run once, at an epoch's or at a batch's end."""

    def __init__(self, path: Path, epoch: int, batch: int | None) -> None:
        self.path, self.at = path, (epoch, batch)

    def on_epoch_checkpoint(self, epoch: int) -> None:
        if self.at == (epoch, None):
            save_state(self.path, self.loop.state_dict())

    def on_batch_checkpoint(self, batch: int) -> None:
        if self.at == (self.loop.epoch, batch):
            save_state(self.path, self.loop.state_dict())


SCHEDULES: dict[str, Any] = {
    **{text: text for text in ALL},
    "plateau": "plateau:patience=0,factor=0.5",
    "function": lambda epoch: 1 / (epoch + 2),
    "function-of-the-rate": lambda epoch, lr: lr * 0.9,
    "callable": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch),
}


@pytest.mark.parametrize("batch", [None, 0, 2], ids=["epoch", "first-batch", "last-batch"])
@pytest.mark.parametrize("on", ["epoch", "batch"])
@pytest.mark.parametrize("chosen", SCHEDULES)
def test_a_resumed_run_goes_on_with_the_rates_of_the_whole_one(
    chosen: str, on: Any, batch: int | None, tmp_path: Path
) -> None:
    """Rates, weights and history are the same to the bit, and no rate is said to be overwritten."""
    if chosen == "plateau" and on == "batch":
        return
    path = tmp_path / ("state.pt" if on == "epoch" else "state")
    values = [5.0, 4.0, 4.0, 3.0, 3.0, 3.0]

    def callbacks() -> list[Any]:
        return [Report(values), LearningRateScheduler(SCHEDULES[chosen], on=on), Lines()]

    whole, resumed, rates, later = trainer(), trainer(lr=0.9, seed=1), Rates(), Rates()
    history = fit(whole, *callbacks(), rates, Save(path, 2, batch))
    again = fit(resumed, *(second := callbacks()), later, resume=path)

    assert again.history == history.history
    assert later.found == rates.found[9 if batch is None else 7 + batch :]
    assert torch.equal(resumed.model.weight, whole.model.weight)
    assert not any("overwritten" in line for line in second[2].lines)


def test_a_function_is_not_asked_again_for_an_epoch_that_goes_on(tmp_path: Path) -> None:
    """Its rate is in the state; the next epoch builds on that."""
    calls: list[tuple[int, float]] = []

    def schedule(epoch: int, lr: float) -> float:
        calls.append((epoch, lr))
        return lr / 2

    def callback() -> LearningRateScheduler:
        return LearningRateScheduler(schedule, verbose=1)

    path, lines = tmp_path / "run.pt", Lines()
    fit(trainer(), callback(), Lines(), Save(path, 2, 1), epochs=3)
    calls.clear()
    fit(trainer(), callback(), lines, resume=path, epochs=5)

    assert calls == [(3, 0.05), (4, 0.025)]
    assert [line.partition(":")[0] for line in lines.lines] == ["Epoch 4", "Epoch 5"]


def test_a_scheduler_that_an_earlier_run_did_not_have_begins_with_its_rate(tmp_path: Path) -> None:
    """Added to a run that is resumed, it starts from the rate that the state has."""
    fit(trainer(lr=0.8), Save(tmp_path / "run.pt", 1, None), epochs=2)
    callback = LearningRateScheduler("cosine_warm_restarts:T_0=4")
    history = fit(trainer(lr=0.4), callback, Lines(), resume=tmp_path / "run.pt", epochs=5)

    expected = by_hand(lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4), 3, lr=0.8)
    assert history.history["lr"] == expected
