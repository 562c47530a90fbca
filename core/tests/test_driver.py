"""The driver: hooks fire in the order of the contract, and every begin has its end."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from hookloop import Callback, CallbackList, History, Logs, hookspecs
from hookloop.capabilities import HOSTS
from hookloop.driver import Driver
from hookloop.errors import CapabilityError
from hookloop.loop import Loop


class Recorder(Callback):
    """Writes down every hook it sees, and raises in some."""

    def __init__(
        self, calls: list[str], name: str = "", *fails: str, observer: bool = False
    ) -> None:
        self.observer = observer

        def hook_of(hook: str) -> Any:
            def implementation() -> None:
                calls.append(f"{name}:{hook}" if name else hook)
                if hook in fails:
                    raise ValueError(f"{name or 'recorder'} in {hook}")

            return implementation

        for hook in hookspecs.names():
            if hook != "on_message":
                setattr(self, hook, hook_of(hook))


def run(hooks: CallbackList) -> None:
    """One epoch of one batch, with validation."""
    hooks.on_train_begin()
    hooks.on_epoch_begin(0)
    hooks.on_train_batch_begin(0, {"size": 1})
    hooks.on_before_optimizer_step()
    hooks.on_train_batch_end(0, {"loss": 1.0})
    hooks.on_test_begin()
    hooks.on_test_batch_begin(0)
    hooks.on_test_batch_end(0)
    hooks.on_test_end({"loss": 2.0})
    hooks.on_epoch_end(0, {"loss": 1.0})
    hooks.on_train_end()


WHOLE = (
    "on_train_begin on_epoch_begin on_train_batch_begin on_before_optimizer_step "
    "on_train_batch_end on_batch_checkpoint on_test_begin on_test_batch_begin on_test_batch_end "
    "on_test_end on_epoch_end on_epoch_checkpoint on_train_end"
).split()


def test_a_run_fires_the_hooks_in_the_order_of_the_map() -> None:
    """Checkpoint hooks follow by themselves."""
    calls: list[str] = []
    run(CallbackList(Recorder(calls), model=None))
    assert calls == WHOLE


@pytest.mark.reliability("E2")
@pytest.mark.parametrize("fails", WHOLE)
def test_wherever_a_callback_fails_every_callback_sees_its_end_once(fails: str) -> None:
    """First ``on_exception``, then ``on_train_end``; a test that was open ends before."""
    calls: list[str] = []
    first, second = Recorder(calls, "a"), Recorder(calls, "b", fails)
    with pytest.raises(ValueError, match=f"b in {fails}"):
        run(CallbackList([first, second], model=None))
    mine = [call.removeprefix("a:") for call in calls if call.startswith("a:")]
    begun = WHOLE[: WHOLE.index(fails) + 1]
    ends = ["on_test_end"] if fails.startswith("on_test") and fails != "on_test_end" else []
    ends += [] if fails == "on_train_end" else ["on_exception", "on_train_end"]
    assert mine == begun + ends


@pytest.mark.parametrize("fails", ["on_predict_begin", "on_predict_batch_end", "on_predict_end"])
def test_a_prediction_that_fails_ends_once(fails: str) -> None:
    """And is no training: no ``on_exception``, no ``on_train_end``."""
    calls: list[str] = []
    hooks = CallbackList([Recorder(calls, "a"), Recorder(calls, "b", fails)], model=None)
    with pytest.raises(ValueError, match=f"b in {fails}"):
        hooks.on_predict_begin()
        hooks.on_predict_batch_begin(0)
        hooks.on_predict_batch_end(0, {"outputs": 1})
        hooks.on_predict_end()
    mine = [call.removeprefix("a:") for call in calls if call.startswith("a:")]
    assert mine[0] == "on_predict_begin"
    assert mine.count("on_predict_end") == 1
    assert not {"on_exception", "on_train_end"} & set(mine)


@pytest.mark.reliability("E3")
def test_failures_of_end_hooks_become_notes_of_what_ended_the_run() -> None:
    """None hides the first exception, and all see their end."""
    calls: list[str] = []
    callbacks = [
        Recorder(calls, "a", "on_exception"),
        Recorder(calls, "b", "on_train_batch_end", "on_train_end"),
        Recorder(calls, "c"),
    ]
    with pytest.raises(ValueError, match="b in on_train_batch_end") as caught:
        run(CallbackList(callbacks, model=None))
    assert caught.value.__notes__ == [
        "raised by callback 'recorder#2' in on_train_batch_end (epoch 0, batch 0)",
        "and then ValueError: a in on_exception",
        "and then ValueError: b in on_train_end",
    ]
    assert calls[-3:] == ["a:on_train_end", "b:on_train_end", "c:on_train_end"]


def test_callbacks_after_one_that_failed_to_begin_see_no_end() -> None:
    """They were never begun."""
    calls: list[str] = []
    callbacks = [Recorder(calls, "a"), Recorder(calls, "b", "on_train_begin"), Recorder(calls, "c")]
    with pytest.raises(ValueError, match="b in on_train_begin"):
        CallbackList(callbacks, model=None).on_train_begin()
    assert calls == [
        "a:on_train_begin",
        "b:on_train_begin",
        *("a:on_exception", "b:on_exception"),
        *("a:on_train_end", "b:on_train_end"),
    ]


def test_an_observer_that_fails_is_off_for_the_rest_and_the_end_says_so_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Training goes on without it."""
    calls: list[str] = []
    watches = Recorder(calls, "watches", "on_epoch_begin", observer=True)
    with pytest.warns(RuntimeWarning, match="is off for the rest of this run"):
        run(CallbackList([watches, Recorder(calls, "b")], model=None))
    assert [call for call in calls if call.startswith("watches")] == [
        "watches:on_train_begin",
        "watches:on_epoch_begin",
    ]
    assert [call for call in calls if call.startswith("b:")] == [f"b:{hook}" for hook in WHOLE]
    assert capsys.readouterr().out == (
        "recorder was off since it failed: ValueError: watches in on_epoch_begin\n"
    )


@pytest.mark.parametrize(
    ("stop", "outcome"),
    [(None, "finished"), ({"failed": False}, "stopped"), ({"failed": True}, "failed")],
    ids=["finished", "stopped", "failed"],
)
def test_the_outcome_says_how_a_run_ended(stop: Any, outcome: str) -> None:
    """On the loop, and in the history."""
    hooks = CallbackList((), model=None, history=True)
    hooks.on_train_begin()
    if stop is not None:
        hooks.loop.stop("because", **stop)
    hooks.on_train_end()
    history = next(callback for callback in hooks if isinstance(callback, History))
    assert (hooks.loop.outcome, history.outcome) == (outcome, outcome)
    assert history.stop_reason == (None if stop is None else "because")


@pytest.mark.parametrize(
    ("error", "outcome"), [(ValueError(), "failed"), (KeyboardInterrupt(), "interrupted")], ids=repr
)
def test_an_exception_of_the_loop_itself_is_told_to_the_callbacks(
    error: BaseException, outcome: str
) -> None:
    """Once; then they end."""
    calls: list[str] = []
    hooks = CallbackList(Recorder(calls), model=None)
    hooks.on_train_begin()
    hooks.on_exception(error)
    hooks.on_train_end()
    assert calls == ["on_train_begin", "on_exception", "on_train_end"]
    assert hooks.loop.outcome == outcome


# -- logs ---------------------------------------------------------------


def test_what_callbacks_log_lands_where_the_run_is() -> None:
    """In a batch in the batch's logs, in a test in the test's, otherwise in the epoch's."""
    seen: dict[str, dict[str, Any]] = {}

    class Logger(Callback):
        def on_epoch_begin(self) -> None:
            self.loop.log(start=1.0)

        def on_train_batch_begin(self) -> None:
            self.loop.log("batch", 2.0)

        def on_train_batch_end(self, logs: Logs) -> None:
            seen["batch"] = dict(logs)

        def on_test_end(self, logs: Logs) -> None:
            self.loop.log(extra=3.0)
            seen["test"] = dict(logs)

        def on_epoch_end(self, logs: Logs) -> None:
            seen["epoch"] = dict(logs)

        def on_train_end(self, logs: Logs) -> None:
            seen["train"] = dict(logs)

    run(CallbackList(Logger(), model=None))
    assert seen == {
        "batch": {"size": 1, "batch": 2.0, "loss": 1.0},
        "test": {"loss": 2.0, "extra": 3.0},
        "epoch": {"loss": 1.0, "start": 1.0, "val_loss": 2.0, "val_extra": 3.0},
        "train": {"loss": 1.0, "start": 1.0, "val_loss": 2.0, "val_extra": 3.0},
    }


def test_begin_hooks_get_empty_logs_but_for_the_size() -> None:
    """Never None."""
    seen: list[Any] = []

    class Begins(Callback):
        def on_train_begin(self, logs: Logs) -> None:
            seen.append(dict(logs))

        def on_epoch_begin(self, logs: Logs) -> None:
            seen.append(dict(logs))

        def on_train_batch_begin(self, logs: Logs) -> None:
            seen.append(dict(logs))

    run(CallbackList(Begins(), model=None))
    assert seen == [{}, {}, {"size": 1}]


def test_validation_of_an_earlier_epoch_is_never_reported_again() -> None:
    """Values are fresh or absent."""
    seen: list[dict[str, Any]] = []

    class Looks(Callback):
        def on_epoch_end(self, logs: Logs) -> None:
            seen.append(dict(logs))

    hooks = CallbackList(Looks(), model=None)
    hooks.on_train_begin()
    hooks.on_epoch_begin(0)
    hooks.on_test_begin()
    hooks.on_test_end({"loss": 2.0})
    hooks.on_epoch_end(0, {"loss": 1.0})
    hooks.on_epoch_begin(1)
    hooks.on_epoch_end(1, {"loss": 0.5})
    assert seen == [{"loss": 1.0, "val_loss": 2.0}, {"loss": 0.5}]


# -- needs ---------------------------------------------------------------


def test_a_callback_whose_needs_a_host_lacks_is_refused_with_who_can() -> None:
    """Before training."""
    import hookloop.trainer  # noqa: F401  (adds its host to the list)

    class Needy(Callback):
        needs = ("evaluate", "stop")

    able = ", ".join(host for host, offered in HOSTS.items() if {"evaluate", "stop"} <= offered)
    with pytest.raises(CapabilityError) as caught:
        CallbackList(Needy(), model=None).on_train_begin()
    assert str(caught.value) == (
        f"needy needs evaluate, which CallbackList does not offer.\nfix: run it in: {able}"
    )
    assert "Trainer" in able


def test_a_need_that_no_loop_knows_is_refused() -> None:
    """The list of features is closed."""

    class Wrong(Callback):
        needs = ("batch_hook",)

    with pytest.raises(CapabilityError, match=r"No loop has a feature 'batch_hook'\. Did you mean"):
        Driver(Loop(model=nn.Linear(1, 1), callbacks=[("wrong", Wrong())]))
