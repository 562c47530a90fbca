"""Callbacks of hookloop in a net of skorch: what they see, and what they can do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hookloop_in_skorch import HookloopCallback
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback as SkorchCallback
from skorch.callbacks import EarlyStopping, EpochScoring, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn

from hookloop import Callback, hookspecs
from hookloop.errors import ArgumentError, CapabilityError, UnknownCallbackError

SAMPLES = 40
X = np.linspace(-1, 1, SAMPLES, dtype=np.float32).reshape(-1, 1)
Y = 2 * X + 0.5


def net(*callbacks: Any, kind: Any = NeuralNetRegressor, **settings: Any) -> Any:
    """A line, in batches of 8: 4 of training and 1 of validation, unless settings say otherwise."""
    torch.manual_seed(0)
    usual = {
        "module__in_features": 1,
        "module__out_features": 1,
        "max_epochs": 3,
        "batch_size": 8,
        "lr": 0.1,
        "train_split": ValidSplit(5),
        "verbose": 0,
    }
    return kind(nn.Linear, callbacks=list(callbacks), **{**usual, **settings})


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


class Ends(SkorchCallback):
    """Counts the ends of epochs that skorch's other callbacks see."""

    def initialize(self) -> Ends:
        self.ends_ = 0
        return self

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        self.ends_ += 1


# -- what callbacks see ---------------------------------------------------------------------------


def test_the_batch_loss_is_of_that_batch_and_the_epochs_their_mean() -> None:
    """As an independent forward pass over the same rows gives them."""
    recorder = Recorder()
    found = net(HookloopCallback([recorder]), max_epochs=1, lr=0.0)
    found.fit(X, Y)

    rows = found.history[0]["batches"]
    assert [logs["loss"] for logs in recorder.logs["on_train_batch_end"]] == [
        row["train_loss"] for row in rows if "train_loss" in row
    ]
    assert [logs["size"] for logs in recorder.logs["on_train_batch_end"]] == [8, 8, 8, 8]
    [epoch] = recorder.logs["on_epoch_end"]
    assert epoch["loss"] == pytest.approx(found.history[0]["train_loss"], abs=1e-7)
    assert epoch["val_loss"] == pytest.approx(found.history[0]["valid_loss"], abs=1e-7)
    assert set(epoch) == {"loss", "val_loss"}


def test_before_the_step_the_loss_of_the_batch_is_known() -> None:
    """With what the net's own get_loss adds to the criterion."""

    class Doubled(NeuralNetRegressor):
        def get_loss(self, *args: Any, **kwargs: Any) -> Any:
            return 2 * super().get_loss(*args, **kwargs)

    recorder = Recorder()
    found = net(HookloopCallback([recorder]), kind=Doubled, max_epochs=1)
    found.fit(X, Y)

    before = [logs["loss"] for logs in recorder.logs["on_before_optimizer_step"]]
    assert before == [row["train_loss"] for row in found.history[0]["batches"][:4]]
    assert not {"get_loss", "fit_loop"} & set(vars(found))


def test_scores_of_skorch_are_metrics_in_hookloops_words() -> None:
    """valid_acc is val_acc, and its direction is known to whoever monitors it."""
    labels = (Y > 0).astype(np.int64).ravel()
    recorder = Recorder()
    score = EpochScoring("accuracy", lower_is_better=False, name="train_hits", on_train=True)
    found = net(
        score,
        HookloopCallback(["reduce_lr_on_plateau:monitor=val_acc", recorder]),
        kind=NeuralNetClassifier,
        module__out_features=2,
        criterion=nn.CrossEntropyLoss,
    )
    found.fit(X, labels)

    epoch = recorder.logs["on_epoch_end"][-1]
    assert epoch["val_acc"] == found.history[-1]["valid_acc"]
    assert epoch["hits"] == found.history[-1]["train_hits"]
    assert recorder.loop.metrics["hits"].higher_is_better


def test_without_validation_there_are_no_test_hooks_and_no_val_loss() -> None:
    """train_split=None: absent, not stale."""
    recorder = Recorder()
    net(HookloopCallback([recorder]), train_split=None).fit(X, Y)

    assert not any(hook.startswith("on_test") for hook in recorder.hooks())
    assert all(set(logs) == {"loss"} for logs in recorder.logs["on_epoch_end"])
    assert recorder.params["do_validation"] is False


def test_the_loop_says_what_is_known() -> None:
    """Counts, data and outputs of the batch, the module and its optimizer."""
    found_in_batch = []

    def look(loop: Any) -> None:
        found_in_batch.append((loop.inputs.shape, loop.targets.shape, loop.outputs.shape))

    recorder = Recorder(on_train_batch_end=look)
    found = net(HookloopCallback([recorder]))
    found.fit(X, Y)

    assert set(found_in_batch) == {((8, 1), (8, 1), (8, 1))}
    assert recorder.model is found.module_
    assert recorder.loop.optimizer is found.optimizer_
    known = {"epochs": 3, "steps": 4, "batch_size": 8, "samples": 32, "do_validation": True}
    assert {key: recorder.params[key] for key in known} == known
    assert recorder.loop.step == 12


def test_predict_fires_nothing() -> None:
    """A prediction is no part of the training."""
    recorder = Recorder()
    found = net(HookloopCallback([recorder])).fit(X, Y)
    before = len(recorder.seen)
    found.predict(X)

    assert len(recorder.seen) == before


def test_steps_are_counted_where_gradients_are_accumulated() -> None:
    """A net that steps after two batches: step counts those, and savers are asked then."""

    class Accumulating(NeuralNetRegressor):
        def train_step(self, batch: Any, **fit_params: Any) -> Any:
            step = self.train_step_single(batch, **fit_params)
            if len(self.history[-1, "batches"]) % 2 == 0:
                self.optimizer_.step()
                self.optimizer_.zero_grad()
            return step

    recorder = Recorder()
    net(HookloopCallback([recorder]), kind=Accumulating, max_epochs=1).fit(X, Y)

    assert recorder.loop.step == 2
    assert recorder.hooks().count("on_before_optimizer_step") == 2
    saved = [batch for hook, *place in recorder.seen for batch in place if "batch_ch" in hook]
    assert saved == [1, 3]


def test_a_net_that_steps_after_the_closure_has_the_hook_once() -> None:
    """As with accelerate: gradients are computed first, and the optimizer is given no closure."""

    class Apart(NeuralNetRegressor):
        def train_step(self, batch: Any, **fit_params: Any) -> Any:
            return super().train_step(batch, **fit_params)

        def _step_optimizer(self, step_fn: Any) -> None:
            step_fn()
            self.optimizer_.step()

    recorder = Recorder()
    net(HookloopCallback([recorder]), kind=Apart, max_epochs=1).fit(X, Y)

    assert recorder.hooks().count("on_before_optimizer_step") == recorder.loop.step == 4


# -- stopping -------------------------------------------------------------------------------------


def test_a_stop_at_the_end_of_an_epoch_keeps_no_other_callback_from_it() -> None:
    """Callbacks of skorch behind the bridge see that epoch's end, as does the printed table."""
    recorder = Recorder(on_epoch_end=at(1, None, lambda loop: loop.stop("enough")))
    ends = Ends()
    printed: list[str] = []
    found = net(HookloopCallback([recorder]), ends, max_epochs=9, verbose=1)
    found.set_params(callbacks__print_log__sink=printed.append)
    found.fit(X, Y)

    assert (len(found.history), ends.ends_) == (2, 2)
    assert len([line for line in printed if line.strip()[:1].isdigit()]) == 2
    assert found.hookloop_.history.outcome == "stopped"
    assert found.hookloop_.history.stop_reason == "enough"


def test_a_stop_inside_an_epoch_validates_and_ends_it() -> None:
    """No further batch is drawn; validation and the end of the epoch come, for all callbacks."""
    recorder = Recorder(on_train_batch_end=at(1, 1, lambda loop: loop.stop("enough")))
    ends = Ends()
    found = net(HookloopCallback([recorder]), ends)
    found.fit(X, Y)

    last = recorder.hooks()[recorder.hooks().index("on_epoch_begin", 5) :]
    batch = ["on_train_batch_begin", "on_before_optimizer_step", "on_train_batch_end"]
    batch += ["on_batch_checkpoint"]
    test = ["on_test_begin", "on_test_batch_begin", "on_test_batch_end", "on_test_end"]
    end = ["on_epoch_end", "on_epoch_checkpoint", "on_train_end"]
    assert last == ["on_epoch_begin", *batch, *batch, *test, *end]
    assert found.history[-1]["train_batch_count"] == 2
    assert found.history[-1]["valid_loss"] == pytest.approx(
        recorder.logs["on_epoch_end"][-1]["val_loss"]
    )
    assert ends.ends_ == 2


def test_a_stop_before_the_step_skips_the_step() -> None:
    """The batch ends, the weights stay, and the step is not counted."""
    weights = []

    def stop(loop: Any) -> None:
        weights.append(loop.model.weight.clone())
        loop.stop("enough")

    recorder = Recorder(on_before_optimizer_step=at(0, 2, stop))
    found = net(HookloopCallback([recorder])).fit(X, Y)

    assert torch.equal(found.module_.weight, weights[0])
    assert recorder.loop.step == 2
    assert ("on_train_batch_end", 2) in recorder.seen


@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin"])
def test_a_stop_in_a_begin_hook_runs_no_batch(hook: str) -> None:
    """skorch's history has no row for an epoch without batches."""
    recorder = Recorder(**{hook: lambda loop: loop.stop("not today")})
    found = net(HookloopCallback([recorder])).fit(X, Y)

    assert "on_train_batch_begin" not in recorder.hooks()
    assert recorder.hooks()[-1] == "on_train_end"
    assert ("on_epoch_end" in recorder.hooks()) == (hook == "on_epoch_begin")
    assert len(found.history) == 0
    assert found.hookloop_.history.outcome == "stopped"


def test_a_failed_run_ends_at_once() -> None:
    """A NaN is no epoch: no validation, no row, and the outcome says so."""
    recorder = Recorder()
    found = net(HookloopCallback(["terminate_on_nan", recorder]), lr=1e30, max_epochs=5)
    found.fit(X * 1e20, Y)

    assert found.hookloop_.history.outcome == "failed"
    assert "on_test_begin" not in recorder.hooks()
    assert recorder.hooks()[-1] == "on_train_end"


@pytest.mark.parametrize("first", [True, False])
def test_skorchs_own_early_stopping_stops_the_run_too(first: bool) -> None:
    """It raises KeyboardInterrupt, which is no interrupt; the epoch counts, whoever is first."""
    recorder = Recorder()
    callbacks = [HookloopCallback([recorder]), EarlyStopping(patience=1, sink=lambda _: None)]
    found = net(*callbacks[:: 1 if first else -1], lr=0.0, max_epochs=9)
    found.fit(X, Y)

    history = found.history
    assert found.hookloop_.history.outcome == "stopped"
    assert found.hookloop_.history.stop_reason == "EarlyStopping of skorch"
    assert found.hookloop_.history.epoch == list(range(len(history)))
    assert recorder.hooks().count("on_train_end") == 1


# -- exceptions -----------------------------------------------------------------------------------


#: Those of prediction are not called here, and these two by others only.
CALLED = set(hookspecs.names()) - {"on_message", "on_exception"}


@pytest.mark.parametrize("hook", sorted(hook for hook in CALLED if "predict" not in hook))
def test_an_exception_of_a_callback_leaves_fit_once_with_its_name(hook: str) -> None:
    """Whatever hook it comes from; the end hooks follow, once."""

    def fails(loop: Any) -> None:
        raise ValueError("oh no")

    culprit, witness = Recorder(**{hook: fails}), Recorder()
    found = net(HookloopCallback([culprit, witness]))
    with pytest.raises(ValueError, match="oh no") as raised:
        found.fit(X, Y)

    assert [note for note in raised.value.__notes__ if f"'recorder' in {hook}" in note]
    assert len(raised.value.__notes__) == 1
    assert witness.hooks().count("on_train_end") == (hook != "on_train_begin")
    assert found.hookloop_.history.outcome == "failed"
    assert [name for name, _ in found.callbacks_ if "ookloop" in name] == ["HookloopCallback"]


class Breaks(SkorchCallback):
    """Raises in the middle of the second epoch, as the user's code or a signal does."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def on_batch_end(self, net: Any, **_: Any) -> None:
        if len(net.history) == 2:
            raise self.error("in the loop")


def test_an_exception_of_the_users_code_is_seen() -> None:
    """skorch has no hook for it."""
    errors = []

    class Sees(Callback):
        needs = ("exception",)

        def on_exception(self, exception: BaseException) -> None:
            errors.append(exception)

    recorder = Recorder()
    found = net(HookloopCallback([recorder, Sees()]), Breaks(OSError))
    with pytest.raises(OSError, match="in the loop") as raised:
        found.fit(X, Y)

    assert errors == [raised.value]
    assert recorder.hooks()[-2:] == ["on_exception", "on_train_end"]
    assert found.hookloop_.history.outcome == "failed"
    assert found.hookloop_.history.epoch == [0]


def test_ctrl_c_interrupts_the_run_although_skorch_swallows_it() -> None:
    """fit returns; the outcome and on_exception tell what it was."""
    recorder = Recorder()
    found = net(HookloopCallback([recorder]), Breaks(KeyboardInterrupt)).fit(X, Y)

    assert found.hookloop_.history.outcome == "interrupted"
    assert recorder.hooks()[-2:] == ["on_exception", "on_train_end"]
    assert recorder.hooks().count("on_train_end") == 1


def test_a_failing_observer_is_turned_off() -> None:
    """Training goes on, with one warning."""

    class Watches(Callback):
        observer = True

        def on_epoch_end(self) -> None:
            raise ValueError("blind")

    found = net(HookloopCallback([Watches()]))
    with pytest.warns(RuntimeWarning, match="watches failed in on_epoch_end"):
        found.fit(X, Y)
    assert len(found.history) == 3


# -- learning rates -------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("policy", "settings", "factors"),
    [
        (torch.optim.lr_scheduler.LambdaLR, {"lr_lambda": lambda n: 0.8**n}, [1, 0.8, 0.64]),
        (torch.optim.lr_scheduler.StepLR, {"step_size": 2}, [1, 1, 0.1]),
    ],
    ids=["lambda", "step"],
)
def test_a_rate_that_is_set_composes_with_skorchs_scheduler(
    policy: Any, settings: dict[str, Any], factors: list[float], before: bool
) -> None:
    """Halved by a callback after each epoch, and scheduled: both count, in either order."""
    rates: list[float] = []
    recorder = Recorder(
        on_epoch_begin=lambda loop: rates.append(loop.lr),
        on_epoch_end=lambda loop: loop.set_lr(loop.lr / 2),
    )
    callbacks = [LRScheduler(policy=policy, **settings), HookloopCallback([recorder])]
    net(*callbacks[:: 1 if before else -1]).fit(X, Y)

    assert rates == pytest.approx([0.1 * f / 2**n for n, f in enumerate(factors)])


def test_it_is_said_if_a_scheduler_of_skorch_overwrites_the_rate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """WarmRestartLR computes its rates from numbers of its own."""
    recorder = Recorder(on_epoch_end=lambda loop: loop.set_lr(loop.lr / 2))
    net(HookloopCallback([recorder]), LRScheduler(policy="WarmRestartLR")).fit(X, Y)

    assert capsys.readouterr().out.count("overwritten") == 1


# -- skorch's and sklearn's own ways ---------------------------------------------------------------


def test_a_clone_has_the_same_settings_and_a_run_of_its_own() -> None:
    """sklearn.clone copies each callback on its own, by its parameters."""
    original = net(HookloopCallback(["early_stopping:patience=1"], on_callback_error="raise"))
    original.fit(X, Y)
    copied = clone(original)

    [bridge] = copied.callbacks
    assert bridge is not original.callbacks[0]
    assert bridge.get_params() == original.callbacks[0].get_params()
    assert bridge.history is None
    copied.fit(X, Y)
    assert copied.hookloop_.history.outcome is not None


def test_a_grid_search_searches_over_callbacks() -> None:
    """In processes and in folds, by callbacks__HookloopCallback__callbacks."""
    found = net(HookloopCallback(), max_epochs=6, lr=0.0)
    choices = [["early_stopping:patience=1"], ["early_stopping:patience=3"]]
    search = GridSearchCV(
        found,
        {"callbacks__HookloopCallback__callbacks": choices},
        cv=2,
        scoring="neg_mean_squared_error",
        error_score="raise",
    )
    search.fit(X, Y)

    best = search.best_estimator_
    patience = choices.index(search.best_params_["callbacks__HookloopCallback__callbacks"])
    assert len(best.history) == (2, 4)[patience]
    assert best.hookloop_.history.outcome == "stopped"


def test_a_second_fit_begins_afresh() -> None:
    """Fresh counters, and fresh callbacks where they were chosen by name."""
    recorder = Recorder()
    found = net(HookloopCallback(["early_stopping:patience=2", recorder]), lr=0.0, max_epochs=9)
    found.fit(X, Y)
    first = list(recorder.seen)
    recorder.seen.clear()
    found.fit(X, Y)

    assert recorder.seen == first
    assert recorder.loop.step == 12
    assert found.hookloop_.history.epoch == [0, 1, 2]


def test_set_params_changes_the_callbacks() -> None:
    """Of a net that has trained already, too."""
    found = net(HookloopCallback(["early_stopping:patience=1"]), lr=0.0, max_epochs=9).fit(X, Y)
    assert len(found.history) == 2
    found.set_params(callbacks__HookloopCallback__callbacks=["early_stopping:patience=4"])
    found.fit(X, Y)

    assert len(found.history) == 5


def test_the_class_alone_and_a_name_of_ones_own_are_fine() -> None:
    """skorch takes classes, and pairs with a name."""
    found = net(HookloopCallback, ("mine", HookloopCallback(["terminate_on_nan"], name="mine")))
    found.fit(X, Y)

    assert found.hookloop_.history.outcome == found.mine_.history.outcome == "finished"


def test_two_bridges_of_one_name_are_refused() -> None:
    """Their states could not be told apart."""
    found = net(HookloopCallback(), HookloopCallback())
    with pytest.raises(ArgumentError, match="fix: HookloopCallback"):
        found.fit(X, Y)
    with pytest.raises(ArgumentError, match="'module_' already"):
        net(HookloopCallback(name="module")).fit(X, Y)


def test_two_bridges_stop_together() -> None:
    """What one asks for ends both, each in order."""
    first, second = Recorder(on_epoch_end=lambda loop: loop.stop("enough")), Recorder()
    net(HookloopCallback([first]), HookloopCallback([second], name="other")).fit(X, Y)

    assert first.hooks() == second.hooks()
    assert first.hooks().count("on_epoch_end") == first.hooks().count("on_train_end") == 1


# -- refusals -------------------------------------------------------------------------------------


def test_a_callback_that_skorch_cannot_run_is_refused_before_the_first_batch() -> None:
    """With the names of the loops that can."""

    class Wants(Callback):
        needs = ("predict_hooks",)

    found = net(HookloopCallback([Wants()]))
    with pytest.raises(CapabilityError, match=r"skorch does not offer\.\nfix: run it in: Trainer"):
        found.fit(X, Y)
    assert found.history[-1]["batches"] == []


def test_a_misspelt_name_is_refused_when_the_bridge_is_made() -> None:
    """Not when the data are there."""
    with pytest.raises(UnknownCallbackError, match="Did you mean 'early_stopping'"):
        HookloopCallback(["early_stoping"])


def test_a_missing_skorch_is_named_with_its_pip_line() -> None:
    """Whoever imports the package without the framework reads what to install."""
    code = "import sys; sys.modules['skorch'] = None; import hookloop_in_skorch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert 'fix: pip install "hookloop-in-skorch[skorch]"' in done.stderr


def test_a_metric_of_validation_that_nothing_reports_has_a_fix_for_skorch() -> None:
    """A run without validation is told how to get it, in words of this framework."""
    with pytest.warns(UserWarning, match="early_stopping: 'val_loss' was") as caught:
        net(HookloopCallback(["early_stopping"]), train_split=None).fit(X, Y)

    assert str(caught[0].message).endswith("\nfix: pass train_split=, or monitor one of these")
