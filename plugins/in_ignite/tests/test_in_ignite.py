"""Callbacks of hookloop on a trainer of Ignite: what they see, and what they can do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hookloop_in_ignite
import pytest
import torch
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import LRScheduler, TerminateOnNan
from ignite.metrics import Average, Loss, MetricsLambda
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, StepLR

from hookloop import Callback, hookspecs
from hookloop.errors import ArgumentError, CapabilityError, UnknownCallbackError

X = torch.linspace(-1, 1, 32).reshape(-1, 1)
Y = 2 * X + 0.5


def batches(count: int = 4) -> list[tuple[Tensor, Tensor]]:
    return list(zip(X.split(8), Y.split(8), strict=True))[:count]


class Case:
    """A line, its trainer and its evaluator; `attach` puts callbacks on them."""

    def __init__(self, rate: float = 0.1, **settings: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(1, 1)
        self.loss_fn = nn.MSELoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=rate)
        self.trainer = create_supervised_trainer(
            self.model, self.optimizer, self.loss_fn, **settings
        )
        self.evaluator = create_supervised_evaluator(self.model, {"loss": Loss(self.loss_fn)})
        self.validations = 0

    def validate(self, *_: Any) -> None:
        self.validations += 1
        self.evaluator.run(batches(1))

    def attach(self, *callbacks: Any, **settings: Any) -> Any:
        usual = {"evaluator": self.evaluator, "run_validation": self.validate}
        usual["optimizer"] = self.optimizer
        return hookloop_in_ignite.attach(
            self.trainer, list(callbacks), model=self.model, **usual | settings
        )

    def run(self, epochs: int = 3, **settings: Any) -> None:
        self.trainer.run(batches(), max_epochs=epochs, **settings)


class Recorder(Callback):
    """Writes down what it sees, and does something in some hooks."""

    def __init__(self, **acts: Callable[[Any], Any]) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.logs: dict[str, list[dict[str, float]]] = {}
        self.acts = acts

    def note(self, hook: str, arguments: dict[str, Any]) -> None:
        self.seen.append((hook, *(arguments[k] for k in ("epoch", "batch") if k in arguments)))
        if "logs" in arguments:
            self.logs.setdefault(hook, []).append(dict(arguments["logs"]))
        if hook in self.acts:
            self.acts[hook](self.loop)

    def hooks(self) -> list[str]:
        return [hook for hook, *_ in self.seen]


def _noting(hook: str) -> Any:
    def note(self: Recorder, **arguments: Any) -> None:
        self.note(hook, arguments)

    return note


for _hook in hookspecs.names():
    if _hook != "on_message":
        setattr(Recorder, _hook, hookspecs.hookimpl(trylast=True)(_noting(_hook)))


def at(epoch: int, batch: int | None, act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Do something in one epoch, and one batch, only."""
    return lambda loop: act(loop) if (loop.epoch, loop.batch) == (epoch, batch) else None


# -- what callbacks see ---------------------------------------------------------------------------


def test_batches_and_epochs_count_from_0_and_steps_are_the_optimizers() -> None:
    """Ignite counts from 1, and iterations over all epochs."""
    recorder = Recorder()
    Case(gradient_accumulation_steps=2).attach(recorder).trainer.run(batches(), max_epochs=2)

    ends = [place for hook, *place in recorder.seen if hook == "on_train_batch_end"]
    assert ends == [[0], [1], [2], [3]] * 2
    assert recorder.loop.step == 4
    saved = [place for hook, *place in recorder.seen if hook == "on_batch_checkpoint"]
    assert saved == [[1], [3]] * 2


@pytest.mark.parametrize("none", [None, [], ()], ids=["None", "list", "tuple"])
def test_without_an_optimizer_every_batch_counts_as_a_step(none: Any) -> None:
    """And is a place to save at, as in hookloop.attach: a step that nobody knows of is no window's.

    The count goes on in a trainer that does.
    """
    steps: list[tuple[int, int]] = []
    recorder = Recorder(on_train_batch_end=lambda loop: steps.append((loop.batch, loop.step)))
    case = Case()
    case.attach(recorder, optimizer=none)
    case.run(1)
    case.run(2)

    assert steps == [(0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (1, 6), (2, 7), (3, 8)]
    saved = [place for hook, *place in recorder.seen if hook == "on_batch_checkpoint"]
    assert saved == [[0], [1], [2], [3]] * 2


def test_a_metric_of_an_earlier_epoch_is_not_shown_again() -> None:
    """Ignite never empties its metrics; where no validation ran there is no val_loss."""
    case, recorder = Case(), Recorder()

    def every_other() -> None:
        if case.trainer.state.epoch % 2:
            case.validate()

    case.attach(recorder, run_validation=every_other)
    case.run(4)

    assert ["val_loss" in logs for logs in recorder.logs["on_epoch_end"]] == [
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("first", [True, False])
def test_the_order_in_which_handlers_were_attached_does_not_matter(first: bool) -> None:
    """The bridge runs validation itself: the metrics are those of this epoch, not of the last."""
    case, recorder = Case(), Recorder()
    expected: list[float] = []

    def look(engine: Engine) -> None:
        with torch.no_grad():
            expected.append(case.loss_fn(case.model(X[:8]), Y[:8]).item())

    if first:
        case.attach(recorder)
    case.trainer.add_event_handler(Events.EPOCH_COMPLETED, look)
    if not first:
        case.attach(recorder)
    case.run()

    assert [logs["val_loss"] for logs in recorder.logs["on_epoch_end"]] == pytest.approx(expected)
    assert case.validations == 3


def test_an_evaluator_that_runs_too_late_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    """Without run_validation the order decides: absent, not of the epoch before, and said once."""
    case, recorder = Case(), Recorder()
    case.attach(recorder, run_validation=None)
    case.trainer.add_event_handler(Events.EPOCH_COMPLETED, case.validate)
    case.run()

    assert all(set(logs) == {"loss"} for logs in recorder.logs["on_epoch_end"])
    assert capsys.readouterr().out.count("fix: attach(..., run_validation=...)") == 1


def test_an_evaluator_that_a_handler_runs_before_is_seen() -> None:
    """Whoever attaches after that handler needs no run_validation."""
    case, recorder = Case(), Recorder()
    case.trainer.add_event_handler(Events.EPOCH_COMPLETED, case.validate)
    case.attach(recorder, run_validation=None)
    case.run()

    assert all(set(logs) == {"loss", "val_loss"} for logs in recorder.logs["on_epoch_end"])
    assert recorder.hooks().count("on_test_batch_end") == 3


def test_validation_without_an_evaluator_returns_its_numbers() -> None:
    """A mapping from a function is enough; val_ is not put in front twice."""
    case, recorder = Case(), Recorder()
    case.attach(
        recorder, evaluator=None, run_validation=lambda: {"loss": torch.tensor(0.5), "val_acc": 1.0}
    )
    case.run(1)

    [logs] = recorder.logs["on_epoch_end"]
    assert (logs["val_loss"], logs["val_acc"]) == (0.5, 1.0)
    assert [hook for hook in recorder.hooks() if "test" in hook] == ["on_test_begin", "on_test_end"]


def test_metrics_that_are_mappings_and_tensors_become_flat_names_and_numbers() -> None:
    """Nested ones are joined by an underscore; per-class tensors become lists."""
    case, recorder = Case(), Recorder()
    classes = MetricsLambda(lambda loss: torch.tensor([loss, 1.0]), Loss(case.loss_fn))
    classes.attach(case.evaluator, "classes")

    def nested(engine: Engine) -> None:
        engine.state.metrics["f1"] = {"cat": 0.25, "dog": torch.tensor(0.75)}

    case.evaluator.add_event_handler(Events.EPOCH_COMPLETED, nested)
    case.attach(recorder)
    case.run(1)

    [logs] = recorder.logs["on_epoch_end"]
    assert (logs["val_f1_cat"], logs["val_f1_dog"]) == (0.25, 0.75)
    assert logs["val_classes"] == pytest.approx([logs["val_loss"], 1.0])


def test_metrics_of_the_trainer_are_metrics_of_training() -> None:
    """An Average attached to it is in the logs of the epoch, without prefix."""
    case, recorder = Case(), Recorder()
    Average().attach(case.trainer, "mean")
    case.attach(recorder)
    case.run(2)

    for logs in recorder.logs["on_epoch_end"]:
        assert logs["mean"] == pytest.approx(logs["loss"])


OUTPUTS: dict[str, Any] = {
    "number": (lambda x, y, y_pred, loss: loss.item(), None),
    "tensor": (lambda x, y, y_pred, loss: loss, None),
    "mapping": (lambda x, y, y_pred, loss: {"loss": loss, "pred": y_pred}, None),
    "pair": (lambda x, y, y_pred, loss: (y_pred, loss), lambda output: output[1]),
}


@pytest.mark.parametrize(("output", "transform"), OUTPUTS.values(), ids=OUTPUTS)
def test_the_loss_is_found_in_what_the_trainer_returns(output: Any, transform: Any) -> None:
    """A number, a tensor, a mapping, or with loss_transform anything."""
    case, recorder = Case(output_transform=output), Recorder()
    case.attach(recorder, loss_transform=transform)
    with torch.no_grad():
        first = case.loss_fn(case.model(X[:8]), Y[:8]).item()
    case.run(1)

    logs = recorder.logs["on_train_batch_end"]
    assert logs[0] == {"size": 8, "loss": pytest.approx(first)}
    assert len(logs) == 4


def test_an_output_without_a_loss_is_told_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Not guessed."""
    case, recorder = Case(output_transform=lambda x, y, y_pred, loss: (y_pred, loss)), Recorder()
    case.attach(recorder)
    case.run(1)

    assert capsys.readouterr().out.count("fix: attach(..., loss_transform=") == 1
    assert recorder.logs["on_train_batch_end"][0] == {"size": 8}


def test_before_the_step_gradients_are_complete_and_the_loss_known() -> None:
    """The gradient is that of this batch's loss, which loss_fn has told."""
    case = Case()
    found: list[tuple[float, float]] = []

    def look(loop: Any) -> None:
        found.append((loop.model.weight.grad.item(), loop.loss.item()))

    recorder = Recorder(on_before_optimizer_step=look)
    loss = case.loss_fn(case.model(X[:8]), Y[:8])
    [grad] = torch.autograd.grad(loss, [case.model.weight])
    case.attach(recorder, loss_fn=case.loss_fn)
    case.run(1)

    assert found[0] == (grad.item(), loss.item())
    assert [logs["loss"] for logs in recorder.logs["on_before_optimizer_step"]] == [
        logs["loss"] for logs in recorder.logs["on_train_batch_end"]
    ]
    assert not case.loss_fn._forward_hooks


def test_gradients_inside_of_a_closure_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    """A step that computes them itself has no moment between; said once, not fired too early."""
    case, recorder = Case(), Recorder()

    def step(engine: Engine, batch: Any) -> float:
        def closure() -> Any:
            case.optimizer.zero_grad()
            loss = case.loss_fn(case.model(batch[0]), batch[1])
            loss.backward()
            return loss

        return case.optimizer.step(closure).item()

    case.trainer = Engine(step)
    case.attach(recorder)
    case.run(1)

    assert "on_before_optimizer_step" not in recorder.hooks()
    assert recorder.loop.step == 4
    assert capsys.readouterr().out.count("fix: call backward()") == 1


def test_the_length_of_an_epoch_may_be_unknown() -> None:
    """An iterable without a length: Ignite learns it at the end of the first epoch."""

    class Endless:
        def __iter__(self) -> Any:
            return iter(batches(3))

    case, recorder = Case(), Recorder()
    case.attach(recorder)
    case.trainer.run(Endless(), max_epochs=2)

    ends = [place for hook, *place in recorder.seen if hook == "on_train_batch_end"]
    assert ends == [[0], [1], [2]] * 2
    assert recorder.params["steps"] is None


def test_the_loop_says_what_is_known() -> None:
    """Counts and data of the batch, the module and its optimizer."""
    case = Case()
    shapes = set()
    recorder = Recorder(
        on_train_batch_end=lambda loop: shapes.add((loop.inputs.shape, loop.targets.shape))
    )
    case.attach(recorder)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), 8)
    case.trainer.run(loader, max_epochs=2)

    assert shapes == {((8, 1), (8, 1))}
    assert recorder.model is case.model
    assert recorder.loop.optimizer is case.optimizer
    known = {"epochs": 2, "steps": 4, "batch_size": 8, "samples": 32, "do_validation": True}
    assert {key: recorder.params[key] for key in known} == known


# -- stopping -------------------------------------------------------------------------------------


def test_a_stop_at_the_end_of_an_epoch_stops_with_its_reason() -> None:
    """No further epoch begins."""
    case, recorder = Case(), Recorder(on_epoch_end=at(1, None, lambda loop: loop.stop("enough")))
    attached = case.attach(recorder)
    case.run(9)

    assert attached.history.epoch == [0, 1]
    assert (attached.history.outcome, attached.history.stop_reason) == ("stopped", "enough")
    assert case.trainer.state.epoch == 2


def test_a_stop_inside_an_epoch_validates_and_ends_it() -> None:
    """No further batch is drawn; the handlers of others see the end of that epoch, too."""
    case = Case()
    recorder = Recorder(on_train_batch_end=at(1, 1, lambda loop: loop.stop("enough")))
    ends: list[int] = []
    case.attach(recorder)
    case.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: ends.append(e.state.epoch))
    case.run()

    last = recorder.hooks()[recorder.hooks().index("on_epoch_begin", 5) :]
    batch = ["on_train_batch_begin", "on_before_optimizer_step", "on_train_batch_end"]
    batch += ["on_batch_checkpoint"]
    test = ["on_test_begin", "on_test_batch_begin", "on_test_batch_end", "on_test_end"]
    end = ["on_epoch_end", "on_epoch_checkpoint", "on_train_end"]
    assert last == ["on_epoch_begin", *batch, *batch, *test, *end]
    assert ends == [1, 2]


def test_a_stop_before_the_step_skips_the_step() -> None:
    """The batch ends, the weights stay, and the step is not counted."""
    case = Case()
    weights = []

    def stop(loop: Any) -> None:
        weights.append(loop.model.weight.clone())
        loop.stop("enough")

    recorder = Recorder(on_before_optimizer_step=at(0, 2, stop))
    case.attach(recorder)
    case.run()

    assert torch.equal(case.model.weight, weights[0])
    assert recorder.loop.step == 2
    assert ("on_train_batch_end", 2) in recorder.seen


@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin"])
def test_a_stop_in_a_begin_hook_runs_no_batch(hook: str) -> None:
    """An epoch that has begun is validated and ended; none begins after on_train_begin."""
    case, recorder = Case(), Recorder(**{hook: lambda loop: loop.stop("not today")})
    attached = case.attach(recorder)
    case.run()

    assert "on_train_batch_begin" not in recorder.hooks()
    assert recorder.hooks()[-1] == "on_train_end"
    assert ("on_epoch_end" in recorder.hooks()) == (hook == "on_epoch_begin")
    assert attached.history.outcome == "stopped"


def test_a_failed_run_ends_at_once() -> None:
    """A NaN is no epoch: no validation, no row, and the outcome says so."""
    case, recorder = Case(rate=1e30), Recorder()
    attached = case.attach("terminate_on_nan", recorder, loss_fn=case.loss_fn)
    case.run()

    assert attached.history.outcome == "failed"
    assert "on_test_begin" not in recorder.hooks()
    assert recorder.hooks()[-1] == "on_train_end"


def test_terminate_in_the_middle_of_an_epoch_ends_that_epoch() -> None:
    """Ignite fires no EPOCH_COMPLETED then; the callbacks see the end, and a stop."""
    case, recorder = Case(), Recorder()
    attached = case.attach(recorder)
    case.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=6), lambda e: e.terminate())
    case.run()

    assert attached.history.epoch == [0, 1]
    assert attached.history.stop_reason == "the trainer was terminated"
    assert case.validations == 2
    assert recorder.hooks().count("on_train_end") == 1


@pytest.mark.parametrize(
    "event", [Events.ITERATION_STARTED(once=6), Events.GET_BATCH_STARTED(once=6)]
)
def test_terminate_leaves_no_batch_open(event: Any) -> None:
    """Every on_train_batch_begin has its end, wherever the trainer is terminated."""
    case, recorder = Case(), Recorder()
    case.attach(recorder)
    case.trainer.add_event_handler(event, lambda e: e.terminate(skip_completed=True))
    case.run()

    begun = recorder.hooks().count("on_train_batch_begin")
    assert begun == recorder.hooks().count("on_train_batch_end") >= 5
    assert recorder.hooks()[-1] == "on_train_end"


def test_ignites_terminate_on_nan_ends_the_run() -> None:
    """Whoever terminates the trainer, the run has its end."""
    case, recorder = Case(rate=1e30), Recorder()
    attached = case.attach(recorder)
    case.trainer.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
    case.run(9)

    assert attached.history.outcome == "stopped"
    assert recorder.hooks()[-1] == "on_train_end"


def test_a_number_of_iterations_is_no_stop() -> None:
    """max_iters ends Ignite's run by terminating it; to the callbacks it has finished."""
    case, recorder = Case(), Recorder()
    attached = case.attach(recorder)
    case.trainer.run(batches(), max_iters=6)

    assert attached.history.outcome == "finished"
    assert attached.history.epoch == [0, 1]
    assert recorder.hooks().count("on_train_batch_end") == 6


def test_an_interrupted_run_goes_on_as_one() -> None:
    """trainer.interrupt() returns in the middle; the next run() is the rest of it."""
    case, recorder = Case(), Recorder()
    attached = case.attach(recorder)
    case.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=6), lambda e: e.interrupt())
    case.run()
    assert attached.history.outcome is None
    case.run()

    assert attached.history.epoch == [0, 1, 2]
    assert recorder.hooks().count("on_train_begin") == recorder.hooks().count("on_train_end") == 1
    assert recorder.hooks().count("on_train_batch_end") == 12


# -- exceptions -----------------------------------------------------------------------------------

#: Those of prediction are not called here, and these two by others only.
CALLED = set(hookspecs.names()) - {"on_message", "on_exception"}


@pytest.mark.parametrize("swallowed", [False, True])
@pytest.mark.parametrize("hook", sorted(hook for hook in CALLED if "predict" not in hook))
def test_an_exception_of_a_callback_leaves_run_once_with_its_name(
    hook: str, swallowed: bool
) -> None:
    """Whatever hook it comes from, and although Ignite swallows what anybody handles."""

    def fails(loop: Any) -> None:
        raise ValueError("oh no")

    culprit, witness = Recorder(**{hook: fails}), Recorder()
    case = Case()
    attached = case.attach(culprit, witness)
    handled: list[BaseException] = []
    if swallowed:
        case.trainer.add_event_handler(
            Events.EXCEPTION_RAISED, lambda e, error: handled.append(error)
        )
    with pytest.raises(ValueError, match="oh no") as raised:
        case.run()

    assert len(raised.value.__notes__) == 1
    assert f"'recorder' in {hook}" in raised.value.__notes__[0]
    assert witness.hooks().count("on_train_end") == (hook != "on_train_begin")
    assert witness.hooks().count("on_exception") == (hook not in ("on_train_begin", "on_train_end"))
    assert attached.history.outcome == "failed"
    assert set(map(id, handled)) == ({id(raised.value)} if swallowed else set())


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_an_exception_of_the_users_code_leaves_run_once(kind: type[BaseException]) -> None:
    """The bridge handles no EXCEPTION_RAISED, which would make Ignite swallow it."""
    case, recorder = Case(), Recorder()
    attached = case.attach(recorder)

    def fails(engine: Engine) -> None:
        raise kind("in the loop")

    case.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=6), fails)
    with pytest.raises(kind, match="in the loop"):
        case.run()

    assert recorder.hooks()[-2:] == ["on_exception", "on_train_end"]
    assert recorder.hooks().count("on_train_end") == 1
    assert attached.history.outcome == ("failed" if kind is OSError else "interrupted")
    assert case.trainer.state.epoch == 2


def test_what_the_user_chose_to_swallow_stays_swallowed() -> None:
    """A handler of EXCEPTION_RAISED lets Ignite go on; the run of the callbacks goes on, too."""
    case, recorder = Case(), Recorder()
    attached = case.attach(recorder)
    case.trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: None)

    def fails(engine: Engine) -> None:
        raise OSError("in the loop")

    case.trainer.add_event_handler(Events.ITERATION_STARTED(once=6), fails)
    case.run()

    assert attached.history.outcome == "finished"
    assert attached.history.epoch == [0, 1, 2]


def test_a_failing_observer_is_turned_off() -> None:
    """Training goes on, with one warning."""

    class Watches(Callback):
        observer = True

        def on_epoch_end(self) -> None:
            raise ValueError("blind")

    case = Case()
    attached = case.attach(Watches())
    with pytest.warns(RuntimeWarning, match="watches failed in on_epoch_end"):
        case.run()
    assert attached.history.outcome == "finished"


# -- learning rates -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "factors"),
    [
        (lambda optimizer: LambdaLR(optimizer, lambda n: 0.8**n), [1, 0.8, 0.64]),
        (lambda optimizer: StepLR(optimizer, 2), [1, 1, 0.1]),
    ],
    ids=["lambda", "step"],
)
def test_a_rate_that_is_set_composes_with_a_scheduler(make: Any, factors: list[float]) -> None:
    """Halved by a callback after each epoch, and scheduled by a handler: both count."""
    case = Case()
    scheduler = make(case.optimizer)
    rates: list[float] = []
    recorder = Recorder(
        on_epoch_begin=lambda loop: rates.append(loop.lr),
        on_epoch_end=lambda loop: loop.set_lr(loop.lr / 2),
    )
    case.attach(recorder, schedulers=[scheduler])
    case.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: scheduler.step())
    case.run()

    assert rates == pytest.approx([0.1 * f / 2**n for n, f in enumerate(factors)])


def test_a_scheduler_in_ignites_wrapper_is_known_by_it() -> None:
    """Its LRScheduler around a LambdaLR composes, as it would alone."""
    case = Case()
    wrapper = LRScheduler(LambdaLR(case.optimizer, lambda n: 0.5**n))
    rates: list[float] = []
    recorder = Recorder(
        on_train_batch_begin=at(2, 0, lambda loop: rates.append(loop.lr)),
        on_epoch_end=at(0, None, lambda loop: loop.set_lr(loop.lr / 10)),
    )
    case.trainer.add_event_handler(Events.EPOCH_STARTED, wrapper)
    case.attach(recorder, schedulers=[wrapper])
    case.run()

    assert rates == pytest.approx([0.1 * 0.5**2 / 10])


def test_it_is_said_if_an_unknown_scheduler_overwrites_the_rate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """schedulers= was not given."""
    case = Case()
    scheduler = LambdaLR(case.optimizer, lambda n: 0.8**n)
    case.attach(Recorder(on_epoch_end=lambda loop: loop.set_lr(loop.lr / 2)))
    case.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: scheduler.step())
    case.run()

    assert capsys.readouterr().out.count("overwritten") == 1


# -- several runs, several bridges -----------------------------------------------------------------


def test_a_second_run_begins_afresh() -> None:
    """Fresh counters, and fresh callbacks where they were chosen by name."""
    case, recorder = Case(rate=0.0), Recorder()
    attached = case.attach("early_stopping:patience=2", recorder)
    case.run(3)
    first = list(recorder.seen)
    recorder.seen.clear()
    case.trainer.state.max_epochs = None
    case.run(3)

    assert recorder.seen == first
    assert recorder.loop.step == 12
    assert attached.history.epoch == [0, 1, 2]


def test_a_trainer_that_goes_on_has_its_callbacks_go_on(tmp_path: Path) -> None:
    """run() with more epochs continues Ignite's run, and so that of the callbacks."""
    case, recorder = Case(), Recorder()
    attached = case.attach(("csv_logger", {"filename": tmp_path / "log.csv"}), recorder)
    case.run(2)
    case.run(4)

    assert attached.history.epoch == [0, 1, 2, 3]
    assert recorder.loop.step == 16
    assert recorder.params["epochs"] == 4
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5


def test_a_trainer_that_goes_on_after_a_stop_trains() -> None:
    """Whoever runs it again asks for more."""
    case = Case(rate=0.0)
    attached = case.attach("early_stopping:patience=1")
    case.run(5)
    assert attached.history.epoch == [0, 1]
    case.run(5)

    assert attached.history.epoch == [0, 1, 2]


def test_two_bridges_on_one_trainer_stop_together() -> None:
    """Each has its own callbacks; what one asks for ends both, each in order, once."""
    case = Case()
    first, second = Recorder(on_epoch_end=lambda loop: loop.stop("enough")), Recorder()
    one = case.attach(first)
    two = case.attach(second, evaluator=None, run_validation=None)
    case.run()

    assert first.hooks().count("on_epoch_end") == second.hooks().count("on_epoch_end") == 1
    assert first.hooks()[-1] == second.hooks()[-1] == "on_train_end"
    assert (one.history.outcome, two.history.outcome) == ("stopped", "stopped")


def test_two_bridges_see_one_exception_once() -> None:
    """The second did not raise it, and ends with it."""
    case = Case()

    def fails(loop: Any) -> None:
        raise ValueError("oh no")

    first, second = Recorder(on_epoch_end=fails), Recorder()
    case.attach(first)
    case.attach(second, evaluator=None, run_validation=None)
    with pytest.raises(ValueError, match="oh no") as raised:
        case.run()

    assert len(raised.value.__notes__) == 1
    assert second.hooks()[-2:] == ["on_exception", "on_train_end"]


# -- refusals -------------------------------------------------------------------------------------


def test_a_callback_that_ignite_cannot_run_is_refused_before_the_first_batch() -> None:
    """With the names of the loops that can."""

    class Wants(Callback):
        needs = ("predict_hooks",)

    case = Case()
    case.attach(Wants())
    with pytest.raises(CapabilityError, match=r"does not offer\.\nfix: run it in: Trainer"):
        case.run()
    assert case.trainer.state.iteration == 0


def test_what_makes_no_sense_is_refused_when_attaching() -> None:
    """A misspelt name, a function in place of the module of the loss, what is no optimizer."""
    with pytest.raises(UnknownCallbackError, match="Did you mean 'early_stopping'"):
        Case().attach("early_stoping")
    with pytest.raises(ArgumentError, match="fix: loss_fn="):
        Case().attach(loss_fn=nn.functional.mse_loss)
    for given, kind in (("adam", "str"), ([None], "NoneType"), (nn.Linear(1, 1), "Linear")):
        with pytest.raises(ArgumentError, match=rf"given a {kind} as optimizer.\nfix: pass an "):
            Case().attach(optimizer=given)


def test_a_missing_ignite_is_named_with_its_pip_line() -> None:
    """Whoever imports the package without the framework reads what to install."""
    code = "import sys; sys.modules['ignite'] = None; import hookloop_in_ignite"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert 'fix: pip install "hookloop-in-ignite[ignite]"' in done.stderr


def test_a_metric_of_validation_that_nothing_reports_has_a_fix_for_ignite() -> None:
    """A run without validation is told how to get it, in words of this framework."""
    case = Case()
    case.attach("early_stopping", evaluator=None, run_validation=None)

    with pytest.warns(UserWarning, match="early_stopping: 'val_loss' was") as caught:
        case.run()

    assert str(caught[0].message).endswith(
        "\nfix: attach(..., evaluator=..., run_validation=...), or monitor one of these"
    )
