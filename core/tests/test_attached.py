"""attach: what the hooks see of a loop written by hand, however it is left."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import hookloop
from hookloop import Callback, hookspecs
from hookloop.errors import ArgumentError, CapabilityError, HookloopError, StateError

X = torch.arange(12.0).reshape(6, 2)
Y = X.sum(1, keepdim=True)


class Noting(Callback):
    """Notes every hook, with its index and what its logs hold."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def hooks(self) -> list[str]:
        return [call[0] for call in self.calls]


def _noting(hook: str) -> Any:
    @hookspecs.hookimpl(trylast=True)
    def note(self: Noting, **arguments: Any) -> None:
        index = [arguments[key] for key in ("epoch", "batch") if key in arguments]
        logs = dict(arguments.get("logs", {}))
        self.calls.append((hook.removeprefix("on_"), *index, *([logs] if logs else [])))

    return note


for _name in hookspecs.names():
    if _name != "on_message":
        setattr(Noting, _name, _noting(_name))


@pytest.fixture
def noting() -> Noting:
    return Noting()


def loader(batch: int = 2) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), batch)


def linear() -> tuple[nn.Module, torch.optim.SGD]:
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    return model, torch.optim.SGD(model.parameters(), lr=0.001)


def train(loop: Any, model: nn.Module, optimizer: Any) -> None:
    """A whole training as somebody would write it."""
    for _ in loop.epochs():
        for x, y in loop.batches(loader()):
            step(loop, model, optimizer, x, y)


def step(loop: Any, model: nn.Module, optimizer: Any, x: Any, y: Any) -> None:
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    loop.log(loss=loss)


# -- the hooks and their logs ----------------------------------------------------------------------


def test_one_epoch_calls_every_hook_in_order_with_what_was_logged(noting: Noting) -> None:
    """Batches have what was logged in them, the epoch their mean by size and its own."""
    with hookloop.attach(None, callbacks=[noting], epochs=1) as loop:
        for _ in loop.epochs():
            for index, (x, _y) in enumerate(loop.batches([(X[:4], Y[:4]), (X[4:], Y[4:])])):
                loop.log(loss=float(index), norm=float(len(x)))
            with loop.validation():
                for index, _ in enumerate(loop.batches([(X[:2], Y[:2])])):
                    loop.log(loss=3.0 + index)
                loop.log(accuracy=0.5)
            loop.log("extra", 7)

    end = {"loss": 1 / 3, "norm": 10 / 3, "extra": 7, "val_loss": 3.0, "val_accuracy": 0.5}
    assert noting.calls == [
        ("train_begin",),
        ("epoch_begin", 0),
        ("train_batch_begin", 0, {"size": 4}),
        ("train_batch_end", 0, {"size": 4, "loss": 0.0, "norm": 4.0}),
        ("batch_checkpoint", 0, {"size": 4, "loss": 0.0, "norm": 4.0}),
        ("train_batch_begin", 1, {"size": 2}),
        ("train_batch_end", 1, {"size": 2, "loss": 1.0, "norm": 2.0}),
        ("batch_checkpoint", 1, {"size": 2, "loss": 1.0, "norm": 2.0}),
        ("test_begin",),
        ("test_batch_begin", 0, {"size": 2}),
        ("test_batch_end", 0, {"size": 2, "loss": 3.0}),
        ("test_end", {"loss": 3.0, "accuracy": 0.5}),
        ("epoch_end", 0, end),
        ("epoch_checkpoint", 0, end),
        ("train_end", end),
    ]


def test_the_loop_is_left_as_it_is_without_us(tmp_path: Path) -> None:
    """Same batches, same weights, same random numbers, to the last bit."""

    def weights(attached: bool) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        optimizer = torch.optim.Adam(model.parameters())
        data = DataLoader(TensorDataset(X, Y), 2, shuffle=True)
        if not attached:
            for _ in range(3):
                for x, y in data:
                    optimizer.zero_grad()
                    nn.functional.mse_loss(model(x), y).backward()
                    optimizer.step()
        else:
            with hookloop.attach(
                model, optimizer, callbacks=[f"csv_logger:filename={tmp_path / 'l.csv'}"]
            ) as loop:
                for epoch in loop.epochs():
                    for x, y in loop.batches(data):
                        step(loop, model, optimizer, x, y)
                    if epoch == 2:
                        break
        return nn.utils.parameters_to_vector(model.parameters()), torch.rand(3)

    alone, with_us = weights(False), weights(True)
    assert torch.equal(alone[0], with_us[0])
    assert torch.equal(alone[1], with_us[1])


def test_parameters_of_the_run_come_from_the_loader(noting: Noting) -> None:
    """Steps, batch size and samples are known from the first batch on; what is given holds."""
    model, optimizer = linear()
    with hookloop.attach(
        model, optimizer, callbacks=[noting], epochs=2, params={"samples": 99}
    ) as loop:
        train(loop, model, optimizer)
    assert noting.params["steps"] == 3
    assert noting.params["batch_size"] == 2
    assert noting.params["samples"] == 99
    assert noting.params["epochs"] == 2


def test_inputs_targets_and_loss_are_there_by_reference() -> None:
    """What is logged as loss is the loss of the batch."""
    seen = []
    look = hookloop.load(
        "lambda_callback",
        on_train_batch_end=lambda batch, logs: seen.append((loop.inputs, loop.targets, loop.loss)),
    )
    model, optimizer = linear()
    with hookloop.attach(model, optimizer, callbacks=[look], epochs=1) as loop:
        for _ in loop.epochs():
            for x, y in loop.batches([(X, Y)]):
                step(loop, model, optimizer, x, y)
    inputs, targets, loss = seen[0]
    assert inputs is X
    assert targets is Y
    assert loss.requires_grad


def test_several_loaders_follow_each_other_in_one_epoch(noting: Noting) -> None:
    """The index of the batch goes on."""
    with hookloop.attach(None, callbacks=[noting], epochs=1) as loop:
        for _ in loop.epochs():
            for _ in loop.batches(loader(3)):
                pass
            for _ in loop.batches(loader(6)):
                pass
    begins = [call[1] for call in noting.calls if call[0] == "train_batch_begin"]
    assert begins == [0, 1, 2]


def test_a_validation_in_the_middle_of_a_batch_leaves_the_batch_open(noting: Noting) -> None:
    """For loops that validate every so many batches."""
    with hookloop.attach(None, callbacks=[noting], epochs=1) as loop:
        for _ in loop.epochs():
            for _ in loop.batches([(X, Y)]):
                with loop.validation():
                    loop.log(loss=1.0)
                loop.log(loss=2.0)
    assert ("train_batch_end", 0, {"size": 6, "loss": 2.0}) in noting.calls
    assert ("epoch_end", 0, {"loss": 2.0, "val_loss": 1.0}) in noting.calls


# -- however it is left ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["inner", "both", "return", "epochs"])
def test_leaving_early_ends_batch_and_epoch_with_what_was_logged(noting: Noting, way: str) -> None:
    """By break in either loop, or by return: every end hook runs, once."""

    def run() -> None:
        with hookloop.attach(None, callbacks=[noting], epochs=1) as loop:
            for _ in loop.epochs():
                for _ in loop.batches(loader()):
                    loop.log(loss=5.0)
                    if way == "return":
                        return
                    if way in ("inner", "both"):
                        break
                if way in ("both", "epochs"):
                    break

    run()
    batches = 3 if way == "epochs" else 1
    hooks = noting.hooks()
    assert hooks.count("train_batch_end") == hooks.count("train_batch_begin") == batches
    assert hooks[-3:] == ["epoch_end", "epoch_checkpoint", "train_end"]
    assert noting.calls[-1] == ("train_end", {"loss": 5.0})


def test_what_is_logged_after_break_is_of_the_epoch(noting: Noting) -> None:
    """The batch that was left ends first."""
    with hookloop.attach(None, callbacks=[noting], epochs=1) as loop:
        for _ in loop.epochs():
            for _ in loop.batches(loader()):
                loop.log(loss=5.0)
                break
            loop.log(val_loss=6.0)
    assert ("train_batch_end", 0, {"size": 2, "loss": 5.0}) in noting.calls
    assert ("epoch_end", 0, {"loss": 5.0, "val_loss": 6.0}) in noting.calls


def test_continue_goes_on_with_the_next_batch(noting: Noting) -> None:
    """A batch in which nothing was logged is one all the same."""
    with hookloop.attach(None, callbacks=[noting], epochs=1) as loop:
        for _ in loop.epochs():
            for index, _ in enumerate(loop.batches(loader())):
                if index == 1:
                    continue
                loop.log(loss=float(index))
    assert ("train_batch_end", 1, {"size": 2}) in noting.calls
    assert ("epoch_end", 0, {"loss": 1.0}) in noting.calls


@pytest.mark.parametrize("where", ["batch", "validation", "epoch", "before"])
@pytest.mark.parametrize(
    "error", [ValueError("mine"), KeyboardInterrupt()], ids=["error", "ctrl-c"]
)
def test_an_exception_ends_the_run_once_and_goes_on(
    noting: Noting, where: str, error: BaseException
) -> None:
    """Callbacks see on_exception and on_train_end; nobody sees the end of the epoch."""
    with (
        pytest.raises(type(error)) as caught,
        hookloop.attach(None, callbacks=[noting], epochs=2) as loop,
    ):
        if where == "before":
            raise error
        for _ in loop.epochs():
            for _ in loop.batches(loader()):
                if where == "batch":
                    raise error
            with loop.validation():
                if where == "validation":
                    raise error
            raise error
    assert caught.value is error
    ends = ["test_end"] if where == "validation" else []
    assert noting.hooks()[-2 - len(ends) :] == [*ends, "exception", "train_end"]
    assert "epoch_end" not in noting.hooks()
    assert loop.outcome == ("failed" if isinstance(error, Exception) else "interrupted")


def test_a_callback_that_raises_is_named_and_ends_the_run(noting: Noting) -> None:
    """The exception comes out of the loop where it was called, once, with a note."""
    bad = hookloop.load("lambda_callback", on_train_batch_end=lambda batch, logs: 1 / 0)
    with (
        pytest.raises(ZeroDivisionError) as caught,
        hookloop.attach(None, callbacks=[noting, bad], epochs=1) as loop,
    ):
        for _ in loop.epochs():
            for _ in loop.batches(loader()):
                pass
    assert len(caught.value.__notes__) == 1
    assert "'lambda_callback' in on_train_batch_end (epoch 0, batch 0)" in caught.value.__notes__[0]
    assert noting.hooks()[-2:] == ["exception", "train_end"]


def test_a_callback_that_fails_when_the_block_ends_is_not_lost(noting: Noting) -> None:
    """Leaving by break ends the epoch at the end of the block, where errors are raised."""
    bad = hookloop.load("lambda_callback", on_epoch_end=lambda epoch, logs: 1 / 0)
    with (
        pytest.raises(ZeroDivisionError),
        hookloop.attach(None, callbacks=[noting, bad], epochs=1) as loop,
    ):
        for _ in loop.epochs():
            break
    assert noting.hooks()[-1] == "train_end"


def test_a_stop_iteration_of_a_callback_does_not_end_the_loop_silently() -> None:
    """It would end the user's for as if all were well."""

    def stop(batch: int, logs: Any) -> None:
        raise StopIteration

    bad = hookloop.load("lambda_callback", on_train_batch_begin=stop)
    with (
        pytest.raises(RuntimeError, match="StopIteration"),
        hookloop.attach(None, callbacks=[bad], epochs=1) as loop,
    ):
        for _ in loop.epochs():
            for _ in loop.batches(loader()):
                pass


def test_an_observer_that_fails_is_off_and_training_goes_on() -> None:
    """One warning; the run ends as it would have."""

    class Watching(Callback):
        observer = True

        def on_train_batch_end(self) -> None:
            raise OSError("no more")

    with (
        pytest.warns(RuntimeWarning, match="watching failed"),
        hookloop.attach(None, callbacks=[Watching()], epochs=1) as loop,
    ):
        for _ in loop.epochs():
            for _ in loop.batches(loader()):
                pass
    assert loop.outcome == "finished"


# -- stopping --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hook", "epochs", "batches"),
    [
        ("on_train_begin", 0, 0),
        ("on_epoch_begin", 1, 0),
        ("on_train_batch_begin", 1, 1),
        ("on_train_batch_end", 1, 1),
        ("on_test_end", 1, 3),
        ("on_epoch_end", 1, 3),
    ],
)
def test_a_stop_is_heeded_where_it_is_asked_for(
    noting: Noting, hook: str, epochs: int, batches: int
) -> None:
    """As in fit: the epoch that was cut gets validation and its end."""
    asks = type("Asks", (Callback,), {hook: lambda self: self.loop.stop("enough")})()
    with hookloop.attach(None, callbacks=[asks, noting], epochs=5) as loop:
        for _ in loop.epochs():
            for _ in loop.batches(loader()):
                pass
            with loop.validation():
                pass
    hooks = noting.hooks()
    assert [hooks.count("epoch_end"), hooks.count("train_batch_end")] == [epochs, batches]
    assert (loop.outcome, loop.stop_reason) == ("stopped", "enough")
    assert loop.history.stop_reason == "enough"


def test_no_epochs_are_no_epochs(noting: Noting) -> None:
    """epochs=0 begins and ends a run in which nothing happens."""
    with hookloop.attach(None, callbacks=[noting], epochs=0) as loop:
        assert list(loop.epochs()) == []
    assert noting.hooks() == ["train_begin", "train_end"]


@pytest.mark.parametrize(
    ("number", "raised"), [("SIGTERM", SystemExit), ("SIGINT", KeyboardInterrupt)]
)
def test_a_signal_ends_the_run_in_order_after_the_batch(
    noting: Noting, number: str, raised: type[BaseException]
) -> None:
    """The batch is finished, no epoch end follows, and whoever had the handler has it again."""
    wanted = getattr(signal, number)
    before = signal.getsignal(wanted)
    with (
        pytest.raises(raised) as caught,
        hookloop.attach(None, callbacks=[noting], epochs=5) as loop,
    ):
        for _ in loop.epochs():
            for _ in loop.batches(loader()):
                signal.raise_signal(wanted)
    assert noting.hooks()[-3:] == ["train_batch_end", "batch_checkpoint", "train_end"]
    assert loop.outcome == "interrupted"
    assert signal.getsignal(wanted) is before
    assert raised is KeyboardInterrupt or caught.value.code == 143


def test_after_ctrl_c_the_block_can_be_left_instead(noting: Noting) -> None:
    """on_interrupt='return' goes on after the block."""
    with hookloop.attach(None, callbacks=[noting], epochs=5, on_interrupt="return") as loop:
        for _ in loop.epochs():
            for _ in loop.batches(loader()):
                signal.raise_signal(signal.SIGINT)
    assert loop.history.outcome == "interrupted"


# -- optimizers ------------------------------------------------------------------------------------


def test_accumulation_is_seen_from_the_steps(noting: Noting) -> None:
    """Steps are the optimizer's; savers are asked only where no window is open."""
    model, optimizer = linear()
    with hookloop.attach(model, optimizer, callbacks=[noting], epochs=1) as loop:
        for _ in loop.epochs():
            for index, (x, y) in enumerate(loop.batches(loader(1))):
                nn.functional.mse_loss(model(x), y).backward()
                if index % 3 == 2:
                    optimizer.step()
                    optimizer.zero_grad()
    assert [c[1] for c in noting.calls if c[0] == "batch_checkpoint"] == [2, 5]
    assert loop.step == 2
    assert noting.hooks().count("before_optimizer_step") == 2


def test_of_several_optimizers_the_first_is_counted() -> None:
    """And each is offered to callbacks before it steps."""
    first, second = linear(), linear()
    seen = []

    class Look(Callback):
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            seen.append(optimizer)

    with hookloop.attach(first[0], [first[1], second[1]], callbacks=[Look()], epochs=1) as loop:
        for _ in loop.epochs():
            for x, y in loop.batches(loader(3)):
                for model, optimizer in (second, second, first):
                    step(loop, model, optimizer, x, y)
    assert loop.step == 2
    assert seen == [second[1], second[1], first[1]] * 2
    assert loop.lrs == [0.001, 0.001]


def test_gradients_may_be_changed_before_a_plain_step() -> None:
    """Clipping by name needs no change of the loop."""

    class Clip(Callback):
        def on_before_optimizer_step(self) -> None:
            nn.utils.clip_grad_norm_(self.model.parameters(), 1e-3)

    model, optimizer = linear()
    with hookloop.attach(model, optimizer, callbacks=[Clip()], epochs=1) as loop:
        for _ in loop.epochs():
            for x, y in loop.batches([(X, Y)]):
                step(loop, model, optimizer, x, y)
    assert model.weight.norm().item() == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize("way", ["loop.optimizer_step()", "optimizer.step()"])
def test_a_stop_before_the_step_skips_it(way: str) -> None:
    """As in fit, and it is not counted; savers are asked, as the window is closed."""

    class Refuse(Noting):
        def on_before_optimizer_step(self) -> None:
            self.loop.stop("bad gradients")

    model, optimizer = linear()
    refuse = Refuse()
    with hookloop.attach(model, optimizer, callbacks=[refuse], epochs=1) as loop:
        for _ in loop.epochs():
            for x, y in loop.batches(loader()):
                nn.functional.mse_loss(model(x), y).backward()
                if way == "optimizer.step()":
                    optimizer.step()
                else:
                    assert loop.optimizer_step() is None
                    assert model.weight.grad is not None
    assert loop.step == 0
    assert model.weight.count_nonzero() == 0
    assert refuse.hooks().count("batch_checkpoint") == 1


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.LBFGS], ids=["SGD", "LBFGS"])
def test_a_stop_before_a_step_with_a_closure_skips_it_too(kind: Any) -> None:
    """However often the optimizer evaluates the closure."""

    class Refuse(Callback):
        def on_before_optimizer_step(self) -> None:
            self.loop.stop("bad gradients")

    model = linear()[0]
    optimizer = kind(model.parameters(), lr=0.1)
    with hookloop.attach(model, optimizer, callbacks=[Refuse()], epochs=1) as loop:
        for _ in loop.epochs():
            for x, y in loop.batches(loader()):

                def closure(x: Any = x, y: Any = y) -> Any:
                    optimizer.zero_grad()
                    loss = nn.functional.mse_loss(model(x), y)
                    loss.backward()
                    return loss

                loop.optimizer_step(closure=closure)
    assert loop.step == 0
    assert model.weight.count_nonzero() == 0


def test_what_is_logged_after_a_validation_loop_was_left_is_of_the_validation(
    noting: Noting,
) -> None:
    """The test batch that was left ends first."""
    with hookloop.attach(None, callbacks=[noting], epochs=1) as loop:
        for _ in loop.epochs():
            with loop.validation():
                for _ in loop.batches(loader()):
                    loop.log(loss=1.0)
                    break
                loop.log(total=5.0)
    assert ("test_batch_end", 0, {"size": 2, "loss": 1.0}) in noting.calls
    assert ("test_end", {"loss": 1.0, "total": 5.0}) in noting.calls


def test_a_late_signal_saves_nothing_of_an_unknown_place() -> None:
    """After a step behind the batches, the state belongs to no batch; in place, it is saved."""

    def asked(leftover: bool) -> int:
        model, optimizer = linear()
        seen = Noting()
        loop = hookloop.attach(model, optimizer, callbacks=[seen], epochs=2, on_interrupt="return")
        with loop:
            for _ in loop.epochs():
                for x, y in loop.batches(loader()):
                    step(loop, model, optimizer, x, y)
                if leftover:
                    optimizer.step()
                signal.raise_signal(signal.SIGINT)
        return seen.hooks().count("batch_checkpoint")

    assert asked(leftover=False) == 4  # three batches, and the last one again
    assert asked(leftover=True) == 3


def test_two_loops_over_batches_at_once_are_refused() -> None:
    """Their batches could not be told apart, nor a run be resumed."""
    with (
        pytest.raises(HookloopError, match="fix: zip the loaders"),
        hookloop.attach(None, epochs=1) as loop,
    ):
        for _ in loop.epochs():
            for _ in zip(loop.batches(loader()), loop.batches(loader()), strict=True):
                pass


def test_nothing_of_the_last_batch_is_kept_alive() -> None:
    """Neither its data nor the graph of its loss."""
    model, optimizer = linear()
    with hookloop.attach(model, optimizer, epochs=1) as loop:
        train(loop, model, optimizer)
    assert loop.inputs is loop.targets is loop.loss is None


def test_a_closure_has_the_hook_after_its_gradients(noting: Noting) -> None:
    """L-BFGS evaluates the model many times; the hook runs once a step."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    gradients = []

    class Look(Callback):
        def on_before_optimizer_step(self) -> None:
            gradients.append(self.model.weight.grad is not None)

    with hookloop.attach(model, optimizer, callbacks=[Look()], epochs=1) as loop:
        for _ in loop.epochs():
            for x, y in loop.batches([(X, Y)]):

                def closure(x: Any = x, y: Any = y) -> Any:
                    optimizer.zero_grad()
                    loss = nn.functional.mse_loss(model(x), y)
                    loss.backward()
                    return loss

                loop.log(loss=loop.optimizer_step(closure=closure))
    assert gradients == [True]
    assert loop.step == 1


def test_a_closure_without_us_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The hook cannot run there at the right time; the line says what to write."""
    model, optimizer = linear()

    class Look(Callback):
        def on_before_optimizer_step(self) -> None:
            raise AssertionError

    with hookloop.attach(model, optimizer, callbacks=[Look()], epochs=1) as loop:
        for _ in loop.epochs():
            for _ in loop.batches(loader()):
                optimizer.step(lambda: torch.tensor(0.0))
    assert capsys.readouterr().out.count("fix: loop.optimizer_step(closure=closure)") == 1


def test_a_scaler_that_skips_a_step_is_not_counted(noting: Noting) -> None:
    """Mixed precision: gradients that overflow make no step."""
    model, optimizer = linear()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    with hookloop.attach(model, optimizer, callbacks=[noting], stateful=scaler, epochs=1) as loop:
        for _ in loop.epochs():
            for index, (x, y) in enumerate(loop.batches(loader())):
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(x), y) * (float("inf") if index == 1 else 1)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                loop.log(loss=loss)
    assert loop.step == 2
    assert noting.hooks().count("before_optimizer_step") == 2


def test_without_an_optimizer_every_batch_is_a_step(noting: Noting) -> None:
    """Whatever updates the weights is not ours to see."""
    model, _ = linear()
    with hookloop.attach(model, callbacks=[noting], epochs=2) as loop:
        for _ in loop.epochs():
            for _ in loop.batches(loader()):
                pass
    assert loop.step == 6
    with pytest.raises(CapabilityError, match="attach was given no optimizer"):
        _ = loop.lr


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        # Rates at the begin of each epoch, by hand: the callback halves the rate after each.
        (lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda n: 1 / (n + 1)), [1, 1 / 4, 1 / 12]),
        (lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.1), [1, 0.05, 0.0025]),
        (lambda o: torch.optim.lr_scheduler.StepLR(o, 100), [1, 0.5, 0.25]),
    ],
    ids=["LambdaLR", "ExponentialLR", "StepLR"],
)
def test_a_rate_that_is_set_composes_with_the_schedulers_we_know(make: Any, wanted: Any) -> None:
    """The scheduler goes on from what a callback set, and nobody is told of a conflict."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = make(optimizer)
    found = []
    halve = hookloop.load(
        "lambda_callback", on_epoch_end=lambda epoch, logs: loop.set_lr(loop.lr / 2)
    )
    with hookloop.attach(
        model, optimizer, callbacks=[halve], stateful=[scheduler], epochs=3
    ) as loop:
        for _ in loop.epochs():
            found.append(loop.lr)
            optimizer.step()
            scheduler.step()
    assert found == pytest.approx(wanted)


def test_one_cycle_composes_too() -> None:
    """Its rates live in the groups of the optimizer, and all of them are scaled."""

    def rates(factor: float) -> list[float]:
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=6)
        found = []
        with hookloop.attach(model, optimizer, stateful=scheduler, epochs=6) as loop:
            for epoch in loop.epochs():
                found.append(loop.lr)
                if epoch == 2:
                    loop.set_lr(loop.lr * factor)
                optimizer.step()
                if epoch < 5:
                    scheduler.step()
        return found

    plain, halved = rates(1.0), rates(0.5)
    assert halved[:3] == plain[:3]
    assert halved[3:] == pytest.approx([rate / 2 for rate in plain[3:]])


def test_an_overwritten_rate_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """By a scheduler that we were not told of."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1.0)
    halve = hookloop.load(
        "lambda_callback", on_epoch_end=lambda epoch, logs: loop.set_lr(loop.lr / 2)
    )
    with hookloop.attach(model, optimizer, callbacks=[halve], epochs=4) as loop:
        for _ in loop.epochs():
            optimizer.step()
            scheduler.step()
    assert capsys.readouterr().out.count("overwritten") == 1


# -- refused before training -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"epochs": -1}, ArgumentError, "epochs=-1"),
        ({"epochs": True}, ArgumentError, "epochs"),
        ({"on_interrupt": "go"}, ArgumentError, "fix: 'raise' or 'return'"),
        ({"on_callback_error": "go"}, ArgumentError, "'disable'"),
        ({"stateful": [object()]}, ArgumentError, "has no state to save"),
        ({"callbacks": ["early_stoping"]}, HookloopError, "early_stopping"),
        ({"resume": "nowhere"}, StateError, "does not exist"),
        ({"optimizer": "adam"}, ArgumentError, "torch.optim"),
    ],
)
def test_what_is_wrong_is_refused_before_training(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    """With a sentence that says what to do."""
    with (
        pytest.raises(error, match=words.replace("(", r"\(")),
        hookloop.attach(arguments.pop("model", None), **arguments),
    ):
        pass


def test_a_callback_that_needs_what_is_not_there_is_refused_with_who_has_it() -> None:
    """The sentence names the loops that can run it."""
    needy = type("Needy", (Callback,), {"needs": ("evaluate",)})()
    with pytest.raises(CapabilityError) as caught:
        hookloop.attach(None, callbacks=[needy])
    assert "needy needs evaluate, which attach does not offer" in str(caught.value)
    assert "fix: run it in: Trainer" in str(caught.value)


def test_calls_outside_of_the_block_say_where_they_belong(noting: Noting) -> None:
    """Before, after, and twice."""
    loop = hookloop.attach(None, callbacks=[noting], epochs=1)
    with pytest.raises(HookloopError, match="has not begun"):
        loop.epochs()
    with loop, pytest.raises(HookloopError, match="outside of an epoch"):
        loop.batches([])
    with pytest.raises(HookloopError, match="has ended"):
        loop.epochs()
    with pytest.raises(HookloopError, match="begins only once"), loop:
        pass


def test_data_that_are_none_are_refused() -> None:
    """Instead of a TypeError from within."""
    with (
        pytest.raises(HookloopError, match="given a int"),
        hookloop.attach(None, epochs=1) as loop,
    ):
        for _ in loop.epochs():
            loop.batches(3)


def test_the_hooks_on_the_optimizer_are_gone_after_the_run(noting: Noting) -> None:
    """Also when it failed."""
    model, optimizer = linear()
    with (
        pytest.raises(ValueError, match="mine"),
        hookloop.attach(model, optimizer, callbacks=[noting], epochs=1),
    ):
        raise ValueError("mine")
    optimizer.step()
    assert noting.loop.step == 0
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_epochs_that_are_asked_for_again_go_on() -> None:
    """After a break, the next loop over epochs has the rest of them, and no epoch twice."""
    with hookloop.attach(None, epochs=4) as loop:
        for epoch in loop.epochs():
            if epoch == 1:
                break
        assert [list(loop.epochs()), list(loop.epochs())] == [[2, 3], []]
    assert loop.history.epoch == [0, 1, 2, 3]


def test_the_loss_of_a_validation_is_not_that_of_the_batch_around_it() -> None:
    """loop.loss stays the loss of the training batch."""
    with hookloop.attach(None, epochs=1) as loop:
        for _ in loop.epochs():
            for _ in loop.batches([(X, Y)]):
                loop.log(loss=torch.tensor(1.0))
                with loop.validation():
                    loop.log(loss=torch.tensor(7.0))
                assert loop.loss == 1.0


def test_a_validation_whose_exception_is_caught_is_dropped(noting: Noting) -> None:
    """It ends without logs, and the batch around it goes on."""
    with hookloop.attach(None, callbacks=[noting], epochs=1) as loop:
        for _ in loop.epochs():
            for _ in loop.batches([(X, Y)]):
                with suppress(ValueError), loop.validation():
                    loop.log(loss=9.0)
                    raise ValueError
                loop.log(loss=1.0)
    assert noting.hooks().count("test_end") == 1
    assert ("epoch_end", 0, {"loss": 1.0}) in noting.calls
