"""Stopping and failing: what still runs, what is recorded, and what callers get."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hookloop import Callback, CallbackList, Trainer, hookimpl, hookspecs

X = torch.linspace(-1, 1, 8).reshape(4, 2)
Y = X.sum(1, keepdim=True)
BATCH = [
    "on_train_batch_begin",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_batch_checkpoint",
]
TEST = ["on_test_begin", "on_test_batch_begin", "on_test_batch_end", "on_test_end"]
ENDS = [*TEST, "on_epoch_end", "on_epoch_checkpoint"]
WHOLE = ["on_epoch_begin", *BATCH, *BATCH, *ENDS]
LIMITS = ["on_train_begin", "on_train_end"]


class Acting(Callback):
    """Notes every hook, and acts at one of them: the n-th time that it comes."""

    def __init__(self, hook, act, nth=1):
        self.hook, self.act, self.nth = hook, act, nth
        self.seen = []

    def noted(self, hook):
        self.seen.append(hook)
        if hook == self.hook and self.seen.count(hook) == self.nth:
            self.act(self)


def _noting(hook):
    return lambda self: self.noted(hook)


for _hook in hookspecs.names():
    if _hook != "on_message":
        setattr(Acting, _hook, _noting(_hook))


def run(hook, act, nth=1, *, model=None, epochs=3, **options):
    """Fit two batches an epoch, with validation."""
    torch.manual_seed(0)
    model = model or nn.Linear(2, 1)
    trainer = Trainer(model, loss="mse", optimizer="sgd:lr=0.1", device="cpu", seed=1)
    callback = Acting(hook, act, nth)
    options = {"epochs": epochs, "batch_size": 2, "validation_data": [(X, Y)], **options}
    try:
        trainer.fit((X, Y), callbacks=[callback], verbose=0, **options)
    except Exception as error:
        return callback, trainer, error
    return callback, trainer, None


def stop(callback):
    callback.loop.stop("enough")


def fail(callback):
    callback.loop.stop("broken", failed=True)


AFTER_A_STOP = {
    "on_train_begin": (1, []),
    "on_epoch_begin": (1, ["on_epoch_begin", *ENDS]),
    "on_train_batch_begin": (1, ["on_epoch_begin", *BATCH, *ENDS]),
    "on_before_optimizer_step": (1, ["on_epoch_begin", *BATCH, *ENDS]),
    "on_train_batch_end": (1, ["on_epoch_begin", *BATCH, *ENDS]),
    "on_batch_checkpoint": (1, ["on_epoch_begin", *BATCH, *ENDS]),
    "on_train_batch_end (the last)": (2, WHOLE),
    "on_test_begin": (1, WHOLE),
    "on_test_batch_end": (1, WHOLE),
    "on_test_end": (1, WHOLE),
    "on_epoch_end": (1, WHOLE),
    "on_epoch_checkpoint": (1, WHOLE),
    "on_epoch_end (the second)": (2, WHOLE * 2),
}


@pytest.mark.parametrize("where", AFTER_A_STOP)
def test_after_a_stop_the_rest_of_the_batch_and_of_the_epoch_runs(where):
    """The table of the contract: what follows a request to stop, for every hook."""
    nth, expected = AFTER_A_STOP[where]
    callback, trainer, _ = run(where.partition(" ")[0], stop, nth)
    assert callback.seen == [LIMITS[0], *expected, LIMITS[1]]
    assert (trainer.history.outcome, trainer.history.stop_reason) == ("stopped", "enough")
    assert len(trainer.history.epoch) == expected.count("on_epoch_end")


AFTER_A_FAILURE = {
    "on_train_begin": [],
    "on_epoch_begin": ["on_epoch_begin"],
    "on_train_batch_begin": ["on_epoch_begin", *BATCH],
    "on_before_optimizer_step": ["on_epoch_begin", *BATCH],
    "on_train_batch_end": ["on_epoch_begin", *BATCH],
    "on_batch_checkpoint": ["on_epoch_begin", *BATCH],
    "on_test_begin": ["on_epoch_begin", *BATCH, *BATCH, *TEST],
    "on_test_end": ["on_epoch_begin", *BATCH, *BATCH, *TEST],
    "on_epoch_end": WHOLE,
}


@pytest.mark.parametrize("where", AFTER_A_FAILURE)
def test_a_run_that_failed_goes_straight_to_its_end(where):
    """failed=True: no validation, no epoch end, and no row in the history for that epoch."""
    expected = AFTER_A_FAILURE[where]
    callback, trainer, _ = run(where, fail)
    assert callback.seen == [LIMITS[0], *expected, LIMITS[1]]
    assert (trainer.history.outcome, trainer.history.stop_reason) == ("failed", "broken")
    assert len(trainer.history.epoch) == expected.count("on_epoch_end")


@pytest.mark.parametrize("failed", [False, True])
def test_a_stop_before_the_step_skips_it(failed):
    """The gradients of that batch are not used, and the step is not counted."""
    steps = []

    def act(callback):
        steps.append(callback.loop.step)
        callback.loop.stop("no", failed=failed)

    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.fill_(0.5)
    callback, _, _ = run("on_before_optimizer_step", act, model=model)
    assert model.weight.tolist() == [[0.5, 0.5]]
    assert steps == [callback.loop.step] == [0]


def test_a_stop_of_an_earlier_hook_does_not_skip_the_step():
    """Only a request made in on_before_optimizer_step itself does."""
    callback, _, _ = run("on_train_batch_begin", stop)
    assert callback.loop.step == 1


def set_on_the_model(callback):
    callback.model.stop_training = True


def set_on_the_loop(callback):
    callback.loop.stop_training = True


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (set_on_the_model, "stop_training was set on the model"),
        (set_on_the_loop, "stop_training was set"),
    ],
)
def test_stop_training_may_be_set_as_in_keras(act, reason):
    """On the model or on the loop: the epoch is rounded off, then the run ends."""
    callback, trainer, _ = run("on_train_batch_end", act)
    assert callback.seen == [LIMITS[0], "on_epoch_begin", *BATCH, *ENDS, LIMITS[1]]
    assert (trainer.history.outcome, trainer.history.stop_reason) == ("stopped", reason)


def test_stop_training_on_the_model_is_cleared_when_a_run_starts():
    """What an earlier run left there stops nobody."""
    model = nn.Linear(2, 1)
    run("on_train_batch_end", set_on_the_model, model=model)
    assert model.stop_training
    callback, trainer, _ = run("never", stop, model=model)
    assert trainer.history.outcome == "finished"
    assert len(callback.seen) == 2 + 3 * len(WHOLE)


def test_requests_add_up_and_cannot_be_taken_back():
    """Two reasons are both told, each once, and False does not undo them."""

    def act(callback):
        for reason in ("one", "two", "one"):
            callback.loop.stop(reason)
        callback.loop.stop_training = False
        assert callback.loop.stop_training

    _, trainer, _ = run("on_train_batch_end", act)
    assert trainer.history.stop_reason == "one; two"


def test_stopping_inside_an_accumulation_window_uses_its_gradients():
    """One of three micro-batches is there: the step is that of this one alone."""
    model, other = nn.Linear(2, 1), nn.Linear(2, 1)
    other.load_state_dict(model.state_dict())
    trainer = Trainer(model, loss="mse", optimizer="sgd:lr=0.5", device="cpu", accumulate=3)
    callback = Acting("on_train_batch_end", stop)
    trainer.fit([(X[i : i + 1], Y[i : i + 1]) for i in range(4)], callbacks=callback, verbose=0)
    nn.functional.mse_loss(other(X[:1]), Y[:1]).backward()
    with torch.no_grad():
        expected = other.weight - 0.5 * other.weight.grad
    assert torch.allclose(model.weight, expected, atol=1e-7)
    assert callback.loop.step == 1
    assert callback.seen[2:6] == [
        "on_train_batch_begin",
        "on_train_batch_end",
        "on_before_optimizer_step",
        "on_batch_checkpoint",
    ]


def test_a_window_of_a_failed_run_is_thrown_away():
    """What failed makes no further step."""
    model = nn.Linear(2, 1)
    before = model.weight.clone()
    trainer = Trainer(model, loss="mse", optimizer="sgd:lr=0.5", device="cpu", accumulate=3)
    trainer.fit((X, Y), batch_size=1, callbacks=Acting("on_train_batch_end", fail), verbose=0)
    assert torch.equal(model.weight, before)


def boom(callback):
    raise ZeroDivisionError("boom")


@pytest.mark.parametrize(
    ("where", "before"),
    [
        ("on_epoch_begin", ["on_epoch_begin"]),
        ("on_before_optimizer_step", ["on_epoch_begin", *BATCH[:2]]),
        ("on_test_batch_end", ["on_epoch_begin", *BATCH, *BATCH, *TEST]),
        ("on_epoch_end", ["on_epoch_begin", *BATCH, *BATCH, *ENDS[:-1]]),
    ],
)
def test_after_an_exception_whoever_saw_a_begin_sees_the_end_once(where, before):
    """on_test_end if a test was open, then on_exception, then on_train_end; the error goes on."""
    callback, trainer, error = run(where, boom)
    assert callback.seen == ["on_train_begin", *before, "on_exception", "on_train_end"]
    assert isinstance(error, ZeroDivisionError)
    assert trainer.history.outcome == "failed"
    assert trainer.history.epoch == []


def test_an_exception_says_where_it_comes_from():
    """Its type stays; callback, hook, epoch and batch are its note."""
    _, _, error = run("on_train_batch_end", boom, nth=4)
    assert (str(error), error.__notes__) == (
        "boom",
        ["raised by callback 'acting' in on_train_batch_end (epoch 1, batch 1)"],
    )


def test_an_exception_of_the_model_ends_the_run_as_one_of_a_callback_does():
    """The history of the epochs that were whole is there."""

    class Breaks(nn.Linear):
        calls = 0

        def forward(self, x):
            self.calls += self.training
            if self.calls == 3:
                raise ZeroDivisionError("model")
            return super().forward(x)

    callback, trainer, error = run("never", stop, model=Breaks(2, 1))
    assert str(error) == "model"
    assert callback.seen[-2:] == ["on_exception", "on_train_end"]
    assert trainer.history.epoch == [0]
    assert trainer.history.outcome == "failed"


def test_an_exception_in_on_train_end_ends_nothing_twice():
    """Everybody has seen the end once already, and sees no second one."""
    callback, trainer, error = run("on_train_end", boom, epochs=1)
    assert callback.seen == [LIMITS[0], *WHOLE, LIMITS[1]]
    assert isinstance(error, ZeroDivisionError)
    assert trainer.history.outcome == "failed"


@pytest.mark.reliability("E3")
def test_failures_of_end_hooks_become_notes_of_the_first():
    """None hides the exception that ended the run, and everybody is called."""

    class EndsBadly(Callback):
        def on_train_end(self):
            raise OSError("disk")

    seen = Acting("on_epoch_end", boom)
    trainer = Trainer(nn.Linear(2, 1), loss="mse", optimizer="sgd", device="cpu")
    with pytest.raises(ZeroDivisionError) as caught:
        trainer.fit((X, Y), callbacks=[EndsBadly(), seen], verbose=0)
    assert caught.value.__notes__ == [
        "raised by callback 'acting' in on_epoch_end (epoch 0)",
        "and then OSError: disk",
    ]
    assert seen.seen[-1] == "on_train_end"


def test_a_callback_that_never_saw_the_beginning_sees_no_end():
    """The one further down the list was not started when the first one failed."""
    first, second = Acting("on_train_begin", boom), Acting("never", stop)
    trainer = Trainer(nn.Linear(2, 1), loss="mse", optimizer="sgd", device="cpu")
    with pytest.raises(ZeroDivisionError):
        trainer.fit((X, Y), callbacks=[first, second], verbose=0)
    assert first.seen == ["on_train_begin", "on_exception", "on_train_end"]
    assert second.seen == []


@pytest.mark.reliability("E4")
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interruption_ends_in_order_and_is_never_swallowed(interrupt):
    """Also not where failures of callbacks are: outcome is interrupted."""

    class Interrupts(Callback):
        observer = True

        def on_train_batch_end(self):
            raise interrupt

    seen = Acting("never", stop)
    trainer = Trainer(nn.Linear(2, 1), loss="mse", optimizer="sgd", device="cpu")
    with pytest.raises(interrupt):
        trainer.fit((X, Y), callbacks=[Interrupts(), seen], verbose=0, on_callback_error="disable")
    assert seen.seen[-2:] == ["on_exception", "on_train_end"]
    assert trainer.history.outcome == "interrupted"


def test_an_observer_that_fails_is_turned_off_and_training_goes_on(capsys):
    """One warning with the traceback, and a line at the end of the run."""

    class Watches(Callback):
        observer = True
        calls = 0

        def on_train_batch_end(self):
            self.calls += 1
            raise OSError("no display")

    watches = Watches()
    trainer = Trainer(nn.Linear(2, 1), loss="mse", optimizer="sgd", device="cpu")
    with pytest.warns(RuntimeWarning, match="watches failed in on_train_batch_end .epoch 0, batch"):
        history = trainer.fit((X, Y), batch_size=1, callbacks=watches, verbose=0)
    assert (watches.calls, history.outcome) == (1, "finished")
    assert capsys.readouterr().out == "watches was off since it failed: OSError: no display\n"


@pytest.mark.reliability("E8")
@pytest.mark.parametrize(
    ("policy", "observer", "goes_on"),
    [
        ("auto", False, False),
        ("auto", True, True),
        ("raise", True, False),
        ("disable", False, True),
    ],
)
@pytest.mark.filterwarnings("ignore:raises failed")
def test_on_callback_error_decides_for_all(policy, observer, goes_on):
    """auto goes by the callback's own class; the other two are for every callback."""

    class Raises(Callback):
        def on_epoch_end(self):
            raise ValueError("mine")

    Raises.observer = observer
    trainer = Trainer(nn.Linear(2, 1), loss="mse", optimizer="sgd", device="cpu")
    options = {"callbacks": Raises(), "verbose": 0, "on_callback_error": policy}
    if goes_on:
        assert trainer.fit((X, Y), **options).outcome == "finished"
    else:
        with pytest.raises(ValueError, match="mine"):
            trainer.fit((X, Y), **options)


@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_a_stop_ends_an_evaluation_after_the_batch(method):
    """As stop_evaluating and stop_predicting do in Keras; the end hook runs."""
    kind = "test" if method == "evaluate" else "predict"
    callback = Acting(f"on_{kind}_batch_end", stop)
    trainer = Trainer(nn.Linear(2, 1), loss="mse", optimizer="sgd", device="cpu")
    found = getattr(trainer, method)((X, Y), batch_size=1, callbacks=callback, verbose=0)
    hooks = ["begin", "batch_begin", "batch_end", "end"]
    assert callback.seen == [f"on_{kind}_{hook}" for hook in hooks]
    if method == "predict":
        assert tuple(found.shape) == (1, 1)


@pytest.mark.parametrize("method", ["evaluate", "predict"])
@pytest.mark.parametrize("where", ["begin", "batch_end", "end"])
def test_an_exception_in_an_evaluation_is_followed_by_its_end_hook_once(method, where):
    """Whoever saw on_test_begin sees on_test_end; no training hook runs."""
    kind = "test" if method == "evaluate" else "predict"
    callback = Acting(f"on_{kind}_{where}", boom)
    trainer = Trainer(nn.Linear(2, 1), loss="mse", optimizer="sgd", device="cpu")
    with pytest.raises(ZeroDivisionError):
        getattr(trainer, method)((X, Y), callbacks=callback, verbose=0)
    assert callback.seen.count(f"on_{kind}_end") == 1
    assert {hook.split("_")[1] for hook in callback.seen} == {kind}


def test_a_wrapper_may_time_a_hook_that_stops():
    """A stop inside of a wrapped hook is a stop like any other."""

    class Wraps(Callback):
        @hookimpl(wrapper=True)
        def on_train_batch_end(self):
            self.loop.stop("wrapped")
            return (yield)

    trainer = Trainer(nn.Linear(2, 1), loss="mse", optimizer="sgd", device="cpu")
    history = trainer.fit((X, Y), batch_size=1, epochs=2, callbacks=Wraps(), verbose=0)
    assert (history.epoch, history.stop_reason) == ([0], "wrapped")


@pytest.mark.parametrize(
    ("error", "outcome"), [(OSError("disk full"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_whoever_ends_after_a_failure_at_the_end_knows_of_it(error, outcome):
    """So that nothing is cleaned up as after a success."""

    class Fails(Callback):
        def on_train_end(self):
            raise error

    class Asks(Callback):
        def on_train_end(self, loop):
            self.outcome = loop.outcome

    before, after = Asks(), Asks()
    callbacks = CallbackList([before, Fails(), after], model=None)
    callbacks.on_train_begin()
    with pytest.raises(type(error)):
        callbacks.on_train_end()
    assert (before.outcome, after.outcome) == ("finished", outcome)
