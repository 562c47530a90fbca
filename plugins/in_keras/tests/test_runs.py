"""How a run in Keras begins, is refused, is stopped, fails and ends; and its learning rate."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hookloop_in_keras import HookloopCallback

from hookloop import Callback
from hookloop.errors import ArgumentError, CapabilityError, HookloopError

# Of Keras itself, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

X = np.linspace(-1, 1, 80).reshape(20, 4).astype("float32")
Y = X[:, :1] * 2


def made(optimizer: Any = None, **compiled: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer=optimizer or keras.optimizers.SGD(0.05), **{"loss": "mse", **compiled})
    return model


class Log(Callback):
    """Notes the hooks that end something, and what it was told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_train_begin(self) -> None:
        self.calls.append("begin")

    def on_epoch_begin(self, epoch: int) -> None:
        self.calls.append(f"epoch {epoch}")

    def on_train_batch_end(self, batch: int) -> None:
        self.calls.append(f"batch {batch}")

    def on_test_begin(self) -> None:
        self.calls.append("test")

    def on_test_end(self) -> None:
        self.calls.append("test end")

    def on_epoch_end(self) -> None:
        self.calls.append("epoch end")

    def on_exception(self, exception: BaseException) -> None:
        self.calls.append(type(exception).__name__)

    def on_train_end(self) -> None:
        self.calls.append(f"end, {self.loop.outcome}")


class Acts(Callback):
    """Does something in one hook, the first time."""

    def __init__(self, hook: str, act: Any) -> None:
        self.done = False

        def once() -> None:
            if not self.done:
                self.done = True
                act(self.loop)

        setattr(self, hook, once)


def fit(model: keras.Model, callbacks: list[Any], **arguments: Any) -> Any:
    given = {"batch_size": 10, "epochs": 3, "validation_data": (X, Y), "verbose": 0, **arguments}
    return model.fit(X, Y, callbacks=callbacks, **given)


# -- stopping ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hook", "calls"),
    [
        ("on_train_begin", ["begin"]),
        ("on_epoch_begin", ["begin", "epoch 0", "test", "test end", "epoch end"]),
        ("on_train_batch_begin", ["begin", "epoch 0", "batch 0", "test", "test end", "epoch end"]),
        ("on_train_batch_end", ["begin", "epoch 0", "batch 0", "test", "test end", "epoch end"]),
        (
            "on_epoch_end",
            ["begin", "epoch 0", "batch 0", "batch 1", "test", "test end", "epoch end"],
        ),
    ],
)
def test_a_request_to_stop_is_heeded_where_it_is_made(hook: str, calls: list[str]) -> None:
    """With its reason; Keras alone would train another batch after the first two hooks."""
    log, bridge = Log(), None
    bridge = HookloopCallback([Acts(hook, lambda loop: loop.stop("enough")), log])
    model = made()
    fit(model, [bridge])
    assert log.calls == [*calls, "end, stopped"]
    assert bridge.history is not None
    assert (bridge.history.outcome, bridge.history.stop_reason) == ("stopped", "enough")
    assert int(model.optimizer.iterations.value) == sum(call.startswith("batch") for call in calls)
    assert model._initial_epoch is None


def test_a_run_that_failed_goes_straight_to_its_end() -> None:
    """Though Keras validates and ends the epoch: no history row, no hook of either."""
    log = Log()
    bridge = HookloopCallback(
        [Acts("on_train_batch_end", lambda loop: loop.stop("bad", failed=True)), log]
    )
    fit(made(), [bridge])
    assert log.calls == ["begin", "epoch 0", "batch 0", "end, failed"]
    assert bridge.history is not None
    assert bridge.history.epoch == []


def test_early_stopping_of_keras_works_beside_ours() -> None:
    """Whoever stops first stops; the loop knows that it was somebody else."""
    bridge = HookloopCallback(["early_stopping:patience=3"])
    theirs = keras.callbacks.EarlyStopping(patience=1)
    fit(made(keras.optimizers.SGD(2.0)), [bridge, theirs], epochs=10)
    assert theirs.stopped_epoch == 1
    assert bridge.history is not None
    assert bridge.history.epoch == [0, 1]
    assert bridge.history.stop_reason == "stop_training was set on the model"


# -- failing -----------------------------------------------------------------------------------

HOOKS = [
    "on_train_begin",
    "on_epoch_begin",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_batch_checkpoint",
    "on_test_begin",
    "on_test_batch_begin",
    "on_test_batch_end",
    "on_test_end",
    "on_epoch_end",
    "on_epoch_checkpoint",
    "on_train_end",
]


def _fail(loop: Any) -> None:
    raise ArithmeticError("no")


@pytest.mark.parametrize("hook", HOOKS)
def test_an_exception_of_a_callback_propagates_once_with_its_note(hook: str) -> None:
    """Every callback sees the exception and the end, once, and the model is as it was."""
    log, model = Log(), made()
    failing = Acts(hook, _fail)
    failing.name = "failing"
    with pytest.raises(ArithmeticError, match="no") as caught:
        fit(model, [HookloopCallback([log, failing])])
    (note,) = caught.value.__notes__
    assert note.startswith(f"raised by callback 'failing' in {hook}")
    ends = [call for call in log.calls if call.startswith("end") or call == "ArithmeticError"]
    # In on_train_end the run is over for those before it; to Keras nothing of it has failed.
    assert ends == (
        ["end, finished"] if hook == "on_train_end" else ["ArithmeticError", "end, failed"]
    )
    assert "compute_loss" not in vars(model)


@pytest.mark.parametrize("error", [RuntimeError("user"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["data", "step", "keras callback", "validation"])
def test_what_ends_fit_is_told_to_the_callbacks(error: BaseException, where: str) -> None:
    """Wherever it comes from: Keras itself tells nobody, and runs no on_train_end."""

    def bad(*_: Any, **__: Any) -> Any:
        raise error

    def batches() -> Any:
        for _ in range(5):  # of which Keras takes some before training
            yield X, Y
        bad()

    class Theirs(keras.callbacks.Callback):
        on_train_batch_begin = bad

    log, model = Log(), made()
    bridge = HookloopCallback([log])
    callbacks: list[Any] = [bridge]
    data: tuple[Any, ...] = (X, Y)
    if where == "data":
        data = (batches(),)
    elif where == "keras callback":
        callbacks.append(Theirs())
    elif where == "step":
        model.train_step = bad
    else:
        model.test_step = bad
    with pytest.raises(type(error)) as caught:
        model.fit(
            *data, epochs=2, shuffle=False, verbose=0, validation_data=(X, Y), callbacks=callbacks
        )
    assert caught.value is error
    outcome = "failed" if isinstance(error, Exception) else "interrupted"
    assert log.calls[-2:] == [type(error).__name__, f"end, {outcome}"]
    assert log.calls.count("begin") == 1
    assert log.calls.count(f"end, {outcome}") == 1
    assert log.calls.count("test") == log.calls.count("test end")
    assert bridge.history is not None
    assert bridge.history.outcome == outcome


def test_evaluate_and_predict_that_fail_see_their_ends() -> None:
    """on_test_end and on_predict_end run for who saw the begin."""

    class Ends(Callback):
        def on_test_end(self) -> None:
            seen.append("test")

        def on_predict_end(self) -> None:
            seen.append("predict")

    seen: list[str] = []
    model = made()
    for method, hook in (("evaluate", "on_test_batch_end"), ("predict", "on_predict_batch_end")):
        with pytest.raises(ArithmeticError):
            getattr(model, method)(
                X,
                callbacks=[HookloopCallback([Ends(), Acts(hook, _fail)])],
                **({"y": Y} if method == "evaluate" else {}),
                verbose=0,
            )
    assert seen == ["test", "predict"]


def test_an_evaluation_within_fit_that_fails_and_is_caught_ends_nothing() -> None:
    """It was somebody else's."""

    class Tries(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            inner = HookloopCallback([Acts("on_test_begin", _fail)])
            with pytest.raises(ArithmeticError):
                self.model.evaluate(X, Y, verbose=0, callbacks=[inner])

    log = Log()
    fit(made(), [HookloopCallback([log]), Tries()], epochs=2)
    assert log.calls[-1] == "end, finished"


def test_an_observer_that_fails_is_off_and_training_goes_on() -> None:
    """One warning, and the end of the run says so again."""
    watching = Acts("on_train_batch_end", _fail)
    watching.observer = True
    log = Log()
    with pytest.warns(RuntimeWarning, match="is off for the rest of this run"):
        fit(made(), [HookloopCallback([watching, log])])
    assert log.calls[-1] == "end, finished"


def test_the_policy_can_be_set_for_all() -> None:
    """on_callback_error='disable' turns any callback off."""
    with pytest.warns(RuntimeWarning, match="is off"):
        fit(made(), [HookloopCallback([Acts("on_epoch_end", _fail)], on_callback_error="disable")])


def test_a_fit_after_one_that_failed_begins_afresh() -> None:
    """With the same object: the run before it is over."""
    failing, log = Acts("on_epoch_end", _fail), Log()
    bridge, model = HookloopCallback([failing, log]), made()
    with pytest.raises(ArithmeticError):
        fit(model, [bridge])
    log.calls.clear()
    fit(model, [bridge], epochs=1)
    assert log.calls == [
        "begin",
        "epoch 0",
        "batch 0",
        "batch 1",
        "test",
        "test end",
        "epoch end",
        "end, finished",
    ]


# -- the learning rate -------------------------------------------------------------------------


def test_a_rate_that_a_callback_sets_is_the_one_in_force() -> None:
    """And reads as it was set: 0.1, not the nearest number of 32 bits."""
    rates = []

    class Halves(Callback):
        def on_train_batch_begin(self) -> None:
            rates.append(self.loop.lr)
            assert float(self.loop.optimizer.learning_rate.value) == np.float32(self.loop.lr)

        def on_epoch_end(self) -> None:
            self.loop.set_lr(self.loop.lr / 2)

    fit(made(keras.optimizers.Adam(0.1)), [HookloopCallback([Halves()])])
    assert rates == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]


def test_overwriting_by_a_callback_of_keras_is_said_once(capsys: Any) -> None:
    """Two that set the rate: the user hears of it."""
    theirs = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 * (epoch + 1))
    ours = Acts("on_epoch_end", lambda loop: loop.set_lr(0.5))
    fit(made(), [theirs, HookloopCallback([ours])])
    assert (
        capsys.readouterr().out.count("was set to 0.5 by a callback and overwritten with 0.02") == 1
    )


@pytest.mark.parametrize(
    "rate", [keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9), lambda: 0.1]
)
def test_who_sets_the_rate_is_refused_beside_a_schedule(rate: Any) -> None:
    """Before training, with what to do; reading the rate works."""
    model = made(keras.optimizers.SGD(rate))
    with pytest.raises(
        CapabilityError, match="reduce_lr_on_plateau needs set_lr, but the optim"
    ) as e:
        fit(model, [HookloopCallback(["reduce_lr_on_plateau"])])
    assert "\nfix: compile the model with a number" in str(e.value)
    assert int(model.optimizer.iterations.value) == 0
    seen: list[float] = []
    fit(model, [HookloopCallback([Acts("on_epoch_begin", lambda loop: seen.append(loop.lr))])])
    assert seen == [0.1]


def test_a_callback_that_sets_the_rate_unannounced_is_told_too() -> None:
    """set_lr itself says why it cannot."""
    model = made(keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)))
    with pytest.raises(CapabilityError, match="ExponentialDecay, which Keras does not let"):
        fit(model, [HookloopCallback([Acts("on_epoch_end", lambda loop: loop.set_lr(0.1))])])


def test_a_scheduler_of_torch_is_refused() -> None:
    """It needs parameter groups, which an optimizer of Keras does not have."""
    bridge = HookloopCallback([{"learning_rate_scheduler": {"schedule": "step:step_size=1"}}])
    with pytest.raises(CapabilityError, match=r"needs an optimizer of torch(.|\n)*fix: "):
        fit(made(), [bridge])


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("need", ["before_optimizer_step", "optimizer", "evaluate", "state"])
def test_what_keras_cannot_do_is_refused_before_training(need: str) -> None:
    """With the loops that can."""

    class Needs(Log):
        needs = (need,)

    model = made()
    with pytest.raises(CapabilityError, match=rf"needs {need}, .*Keras does not.*\nfix: .*Trainer"):
        fit(model, [HookloopCallback([Needs()])])
    assert int(model.optimizer.iterations.value) == 0


def test_a_model_with_its_own_step_shows_no_batch_data() -> None:
    """Its callbacks are told, before training."""

    class Own(keras.Sequential):
        def train_step(self, data: Any) -> Any:
            return super().train_step(data)

    class Needs(Callback):
        needs = ("batch_data",)

        def on_train_batch_end(self) -> None:
            pass

    model = Own([keras.layers.Input((4,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    with pytest.raises(CapabilityError, match="Own has a train_step or test_step of its own"):
        fit(model, [HookloopCallback([Needs()])])


def test_a_misspelt_callback_is_found_when_the_bridge_is_made() -> None:
    """Not in the first epoch."""
    with pytest.raises(HookloopError, match="early_stopping"):
        HookloopCallback(["early_stoping"])


def test_one_object_runs_in_one_fit_at_a_time() -> None:
    """A nested fit with the same object is refused."""

    class Nested(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            fit(made(), [bridge])

    bridge = HookloopCallback([Log()])
    with pytest.raises(ArgumentError, match="is in a run already"):
        fit(made(), [bridge, Nested()])


def test_a_list_driven_by_hand_is_refused() -> None:
    """For loops by hand there is attach."""
    model = made()
    callbacks = keras.callbacks.CallbackList([HookloopCallback([Log()])], model=model)
    with pytest.raises(CapabilityError, match=r"fix: hookloop\.attach"):
        callbacks.on_train_begin()


def _python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_another_backend_is_refused_before_training(monkeypatch: Any) -> None:
    """One sentence, and what to set."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(
        CapabilityError, match=r"this Keras runs on jax(.|\n)*fix: set KERAS_BACKEND"
    ):
        HookloopCallback()


@pytest.mark.parametrize(
    ("module", "fix"),
    [
        ("keras", 'pip install "hookloop-in-keras[keras]"'),
        ("tensorflow", "set KERAS_BACKEND=torch in the environment, before Keras is imported"),
    ],
)
def test_a_missing_framework_is_named_with_its_cure(module: str, fix: str) -> None:
    """Keras itself, or the TensorFlow that it asks for by default."""
    code = f"import sys; sys.modules[{module!r}] = None; import hookloop_in_keras"
    assert _python(code, KERAS_BACKEND="tensorflow").endswith(f"fix: {fix}\n")


def test_weights_that_model_checkpoint_saved_fit_the_model(tmp_path: Path) -> None:
    """A Keras model is a module of torch: load_weights reads them back."""
    from hookloop import load_weights

    path, model = tmp_path / "m.weights.pt", made()
    fit(model, [HookloopCallback([("model_checkpoint", {"filepath": path})])])
    expected = np.asarray(model.predict(X, verbose=0))
    fit(model, [])
    load_weights(model, path)
    assert np.array_equal(model.predict(X, verbose=0), expected)


def test_a_metric_of_validation_that_nothing_reports_has_a_fix_for_keras() -> None:
    """A run without validation is told how to get it, in words of this framework."""
    with pytest.warns(UserWarning, match="early_stopping: .*'val_loss'") as caught:
        fit(made(), [HookloopCallback(["early_stopping"])], validation_data=None)

    texts = [str(one.message) for one in caught if one.category is UserWarning]
    assert "\nfix: pass validation_data=, or monitor one of these" in texts[0]
