"""CallbackList: hooks called one by one, as in Keras."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hookloop import Callback, CallbackList, History, Logs, hookspecs
from hookloop.errors import ArgumentError, HookloopError


class Adds(Callback):
    """Adds a key to all logs it sees."""

    def on_train_batch_end(self, logs: Logs) -> None:
        logs["added"] = torch.tensor(0.5)

    on_epoch_end = on_test_batch_end = on_test_end = on_predict_batch_end = on_train_batch_end


CALLS: dict[str, Any] = {
    "train batch": lambda cl, logs: cl.on_train_batch_end(0, logs),
    "older spelling": lambda cl, logs: cl.on_batch_end(0, logs),
    "epoch": lambda cl, logs: cl.on_epoch_end(0, logs),
    "test batch": lambda cl, logs: cl.on_test_batch_end(0, logs),
    "test": lambda cl, logs: cl.on_test_end(logs),
    "predict batch": lambda cl, logs: cl.on_predict_batch_end(0, logs),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_callbacks_add_is_written_back(call: Any) -> None:
    """Into the mapping that was passed, as numbers; logs may be left out."""
    hooks = CallbackList(Adds(), model=None)
    hooks.on_train_begin()
    logs = {"loss": 1.0}
    call(hooks, logs)
    assert logs == {"loss": 1.0, "added": 0.5}
    call(hooks, None)


def test_there_is_a_method_for_every_hook() -> None:
    """Called by name, as the hooks are; messages and checkpoints come from the loop itself."""
    automatic = {"on_message", "on_batch_checkpoint", "on_epoch_checkpoint"}
    for hook in {*hookspecs.names(), *hookspecs.SPELLINGS} - automatic:
        assert callable(getattr(CallbackList, hook)), hook


def test_epoch_hooks_work_without_batch_hooks_and_the_other_way_round() -> None:
    """A loop calls what it has."""
    seen: list[dict[str, Any]] = []

    class Looks(Callback):
        def on_epoch_end(self, logs: Logs) -> None:
            seen.append(dict(logs))

    hooks = CallbackList(Looks(), model=None)
    hooks.on_train_begin()
    hooks.on_epoch_end(0, {"loss": 1.0})
    hooks.on_train_batch_end(0, {"loss": 9.0, "size": 4})
    hooks.on_epoch_end(1, {"loss": 2.0})
    hooks.on_train_end()
    assert seen == [{"loss": 1.0}, {"loss": 2.0}]


def test_batch_logs_of_begin_and_end_are_one_mapping() -> None:
    """What was logged in between is there at the end."""
    seen: list[dict[str, Any]] = []

    class Looks(Callback):
        def on_train_batch_begin(self) -> None:
            self.loop.log(early=1.0)

        def on_train_batch_end(self, logs: Logs) -> None:
            self.loop.log(late=2.0)
            seen.append(dict(logs))

    hooks = CallbackList(Looks(), model=None)
    hooks.on_train_begin()
    for batch in range(2):
        hooks.on_train_batch_begin(batch, {"size": 3})
        hooks.on_train_batch_end(batch, {"loss": 0.5})
    assert seen == [{"size": 3, "early": 1.0, "loss": 0.5, "late": 2.0}] * 2


def test_steps_are_those_of_the_optimizer() -> None:
    """Not batches; without an optimizer every batch counts."""
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with_one, without = (
        CallbackList((), model=model, optimizer=given) for given in (optimizer, None)
    )
    for hooks in (with_one, without):
        hooks.on_train_begin()
    for batch in range(4):
        if batch % 2:
            optimizer.step()
        for hooks in (with_one, without):
            hooks.on_train_batch_end(batch)
    assert (with_one.loop.step, without.loop.step) == (2, 4)


def test_the_loop_of_a_run_that_is_over_can_still_be_asked() -> None:
    """For its outcome and its reason; the next begin makes another."""
    hooks = CallbackList((), model=None)
    hooks.on_train_begin()
    hooks.loop.stop("enough")
    hooks.on_train_end()
    over = hooks.loop
    assert (over.outcome, over.stop_reason) == ("stopped", "enough")
    hooks.on_train_begin()
    assert hooks.loop is not over
    assert (hooks.loop.outcome, hooks.loop.stop_training) == (None, False)


def test_ending_twice_ends_once() -> None:
    """As a ``finally`` does after an exception."""
    calls: list[str] = []

    class Ends(Callback):
        def on_epoch_end(self) -> None:
            raise ValueError("x")

        def on_train_end(self) -> None:
            calls.append("end")

    hooks = CallbackList(Ends(), model=None)
    hooks.on_train_begin()
    with pytest.raises(ValueError, match="x"):
        hooks.on_epoch_end(0)
    hooks.on_train_end()
    assert calls == ["end"]


def test_callbacks_can_be_appended_until_a_run_starts() -> None:
    """In any form; the list is fixed while one is under way."""
    hooks = CallbackList("history", model=None)
    hooks.append("base_logger")
    assert [type(callback).__name__ for callback in hooks] == ["History", "BaseLogger"]
    assert len(hooks) == 2
    hooks.on_train_begin()
    with pytest.raises(HookloopError) as caught:
        hooks.append("history")
    assert str(caught.value) == (
        "The list of callbacks is fixed while a run is under way."
        "\nfix: append before the first hook is called"
    )
    hooks.on_train_end()
    hooks.append("history")


def test_it_adds_no_callbacks_by_itself() -> None:
    """Unless it is asked for a history."""
    assert list(CallbackList((), model=None)) == []
    (history,) = CallbackList((), model=None, history=True)
    assert isinstance(history, History)


def test_history_remembers_what_epochs_reported() -> None:
    """Also epochs that lack a value."""
    hooks = CallbackList((), model=None, history=True)
    hooks.on_train_begin()
    hooks.on_epoch_end(0, {"loss": 1.0})
    hooks.on_epoch_end(1, {"loss": torch.tensor(0.5), "val_loss": 2.0})
    hooks.on_train_end()
    (history,) = hooks
    assert history.history == {"loss": [1.0, 0.5], "val_loss": [2.0]}
    assert history.epoch == [0, 1]


def test_training_begins_by_itself_where_the_loop_forgot_to_begin_it() -> None:
    """Keras raises; here the callbacks see their begin before anything else."""
    recorder = Recorded()
    hooks = CallbackList([recorder], model=None)
    hooks.on_epoch_end(0, {"loss": 1.0})
    hooks.on_train_end()
    assert recorder.seen == ["on_train_begin", "on_epoch_end", "on_train_end"]


class Recorded(Callback):
    """Writes down which of three hooks were called."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_train_begin(self) -> None:
        self.seen.append("on_train_begin")

    def on_epoch_end(self) -> None:
        self.seen.append("on_epoch_end")

    def on_train_end(self) -> None:
        self.seen.append("on_train_end")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ({"loss": 1.0},),
            "The epoch is a dict, not a number.\nfix: callbacks.on_epoch_end(epoch, logs)",
        ),
        (
            (0, [1.0]),
            'The logs are a list, not a mapping of names to numbers.\nfix: pass {"loss": 0.1}',
        ),
    ],
    ids=["epoch forgotten", "logs that are a list"],
)
def test_arguments_in_the_wrong_place_are_refused(arguments: tuple[Any, ...], text: str) -> None:
    """With the call as it should be."""
    hooks = CallbackList((), model=None)
    with pytest.raises(ArgumentError) as refused:
        hooks.on_epoch_end(*arguments)
    assert str(refused.value) == text


def test_the_environment_adds_callbacks_to_a_loop_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that nobody wants to edit may well have a loop of its own."""
    monkeypatch.setenv("HOOKLOOP_CALLBACKS", "history")
    hooks = CallbackList((), model=None)
    hooks.on_epoch_end(0, {"loss": 1.0})
    assert [type(callback).__name__ for callback in hooks] == ["History"]
    assert capsys.readouterr().out == "HOOKLOOP_CALLBACKS adds history\n"


def test_what_is_added_before_the_step_is_written_back() -> None:
    """As for every other hook that is given a mapping."""

    class Adds(Callback):
        def on_before_optimizer_step(self, logs: Any) -> None:
            logs["norm"] = 0.5

    hooks = CallbackList([Adds()], model=None)
    hooks.on_train_begin()
    hooks.on_epoch_begin(0)
    hooks.on_train_batch_begin(0)
    logs: dict[str, Any] = {"loss": 1.0}
    hooks.on_before_optimizer_step(None, logs)
    assert logs == {"loss": 1.0, "norm": 0.5}


def test_what_the_environment_adds_is_added_to_each_run_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The list itself stays as it was given."""
    monkeypatch.setenv("HOOKLOOP_CALLBACKS", "+history")
    hooks = CallbackList([], model=None)
    lengths = []
    for _ in range(3):
        hooks.on_train_begin()
        lengths.append(len(hooks))
        hooks.on_train_end()
    assert lengths == [1, 1, 1]
