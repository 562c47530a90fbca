"""Plugins that explode elsewhere than in a hook of training, that hang, leak, or are used twice."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agreement
import policy
import pytest
import torch
from policy import Ends, Fails, PlantedError, Sees
from torch import Tensor

import hookloop
from hookloop import Callback, CallbackList, Trainer
from hookloop.errors import HookloopError, StateError

X, Y = policy.arrays("training")


def trainer() -> Trainer:
    model = agreement.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=agreement.RATE)
    return Trainer(model, loss="mse", optimizer=optimizer, device="cpu")


def fit(callbacks: Any, **options: Any) -> Tensor:
    made = trainer()
    options = {"epochs": 2, "batch_size": 16, "verbose": 0, "callbacks": callbacks, **options}
    made.fit((X, Y), validation_data=policy.arrays("validation"), **options)
    return policy.vector(made.module)


# -- exploding ---------------------------------------------------------------


def predict_by_fit(callbacks: list[Any]) -> None:
    trainer().predict(X, callbacks=callbacks, batch_size=16, verbose=0)


def predict_by_hand(callbacks: list[Any]) -> None:
    hooks = CallbackList(callbacks, model=None)
    hooks.on_predict_begin()
    for batch in range(2):
        hooks.on_predict_batch_begin(batch)
        hooks.on_predict_batch_end(batch, {"outputs": 1})
    hooks.on_predict_end()


@pytest.mark.reliability("E1", "E2", "E3")
@pytest.mark.parametrize("hook", policy.PREDICTS)
@pytest.mark.parametrize("role", policy.ROLES)
@pytest.mark.parametrize("predict", [predict_by_fit, predict_by_hand])
def test_the_policy_holds_in_the_hooks_of_a_prediction(
    predict: Callable[[list[Any]], None], hook: str, role: str
) -> None:
    """Whoever saw it begin sees it end, once; nobody's hooks are skipped for an observer."""
    whole, first, last = Sees(), Sees(), Sees()
    predict([whole])
    fails = Fails(hook, PlantedError(hook), observer=policy.ROLES[role])
    if fails.observer:
        with pytest.warns(RuntimeWarning, match=f"fails failed in {hook}"):
            predict([first, fails, last])
        assert first.calls == last.calls == whole.calls
    else:
        with pytest.raises(PlantedError) as caught:
            predict([first, fails, last])
        [note] = caught.value.__notes__
        assert note.startswith(f"raised by callback 'fails' in {hook}")
        assert first.count("on_predict_end") == 1
        assert last.count("on_predict_end") == last.count("on_predict_begin")
    assert fails.calls == 1


#: What no policy swallows. torch's own two are told by the names of their classes.
GRAVE = (
    KeyboardInterrupt(),
    SystemExit(3),
    MemoryError(),
    torch.OutOfMemoryError("of the device"),
    torch.AcceleratorError("illegal access"),
)


@pytest.mark.reliability("E4")
@pytest.mark.parametrize("hook", policy.hooks("Trainer"))
def test_what_is_no_failure_of_a_plugin_is_never_swallowed(hook: str) -> None:
    """Though it only observes, and the policy says to turn every callback off."""
    for error in GRAVE:
        sees, fails = Sees(), Fails(hook, type(error)(*error.args), observer=True)
        chosen = [policy.Provokes(hook), fails, sees]
        expected = RuntimeError if hook == "on_exception" else type(error)
        with pytest.raises(expected) as caught:
            fit(chosen, on_callback_error="disable" if hook != "on_exception" else "auto")
        assert caught.value is fails.error or f"and then {type(error).__name__}" in "".join(
            caught.value.__notes__
        )
        assert sees.count("on_train_end") == sees.count("on_train_begin")


class Stateful(Callback):
    """Raises where its state is taken or given back."""

    method = ""  # no setting, by which the two runs would differ

    def state_dict(self) -> dict[str, Any]:
        return self._say("state_dict")

    def load_state_dict(self, state: Any) -> None:
        self._say("load_state_dict")

    def _say(self, method: str) -> dict[str, Any]:
        if method == self.method:
            raise PlantedError(method)
        return {"kept": 1}


def attach(callbacks: Any) -> Tensor:
    model = agreement.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=agreement.RATE)
    with hookloop.attach(model, optimizer, callbacks=callbacks, epochs=2) as loop:
        for _ in loop.epochs():
            for x, y in loop.batches(policy.batches("training")):
                optimizer.zero_grad()
                torch.nn.functional.mse_loss(model(x), y).backward()
                optimizer.step()
    return policy.vector(model)


@pytest.mark.reliability("E1")
@pytest.mark.parametrize("run", [fit, attach])
@pytest.mark.parametrize("method", ["state_dict", "load_state_dict"])
@pytest.mark.parametrize("role", policy.ROLES)
def test_the_policy_holds_where_state_is_taken_and_given_back(
    run: Callable[[Any], Tensor], method: str, role: str, tmp_path: Path
) -> None:
    """Without an observer's state the run is saved, and goes on; with a decider's it ends."""
    backup = {"backup_dir": tmp_path, "delete_checkpoint": False}
    wanted, stateful = run([]), Stateful()
    stateful.observer = policy.ROLES[role]
    if method == "load_state_dict":  # there has to be one: of an epoch that is not the last
        with pytest.raises(RuntimeError):
            run([stateful, ("backup_and_restore", backup), Ends()])
    stateful.method = method
    chosen = [stateful, ("backup_and_restore", backup)]
    if policy.ROLES[role]:
        with pytest.warns(RuntimeWarning, match=f"stateful failed in {method}"):
            assert torch.equal(run(chosen), wanted)
        assert list(tmp_path.glob("state-*"))
    else:
        with pytest.raises((PlantedError, StateError)) as caught:
            run(chosen)
        planted = caught.value.__cause__ or caught.value  # a state that does not fit is told so
        assert type(planted) is PlantedError
        assert caught.value.__notes__[0].startswith(f"raised by callback 'stateful' in {method}")


# -- leaking, hanging ---------------------------------------------------------------


@pytest.mark.reliability("E5")
@pytest.mark.filterwarnings("ignore:remote_monitor.*events were not delivered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:remote_monitor.*cannot be reached:RuntimeWarning")
def test_after_an_exception_no_file_is_left_open(tmp_path: Path) -> None:
    """By any callback that has files, threads or locks; the CSV has every finished epoch."""
    chosen = [
        f"csv_logger:filename='{tmp_path / 'log.csv'}'",
        f"tensorboard:log_dir='{tmp_path / 'logs'}'",
        f"backup_and_restore:backup_dir='{tmp_path / 'backup'}',save_freq=1",
        f"model_checkpoint:filepath='{tmp_path / 'model.pt'}'",
        ("remote_monitor", {"root": "http://127.0.0.1:9", "spool": tmp_path, "flush_timeout": 0.0}),
    ]
    fit(chosen)  # what is opened once for all, such as the writer's thread
    before, alive = set(os.listdir("/proc/self/fd")), set(threading.enumerate())
    with pytest.raises(RuntimeError, match="no power"):
        fit([*chosen, Ends()], epochs=3)
    for thread in set(threading.enumerate()) - alive:
        thread.join(5)
        assert not thread.is_alive()
    assert set(os.listdir("/proc/self/fd")) == before
    assert (tmp_path / "log.csv").read_text().count("\n") == 2  # its header, and one epoch


class Leaks(Callback):
    """Leaves a file open and a thread that waits for ever, at every batch."""

    observer = True

    def __init__(self) -> None:
        self.over, self.left = threading.Event(), list[Any]()

    def on_train_batch_end(self) -> None:
        thread = threading.Thread(target=self.over.wait, daemon=True)
        thread.start()
        self.left += [thread, open(os.devnull)]  # noqa: SIM115


def test_what_a_plugin_leaves_behind_does_not_hold_up_the_end_of_the_run() -> None:
    """Its threads hang on; training is over, with the weights that it has without them."""
    leaks = Leaks()
    try:
        assert torch.equal(fit([leaks]), fit([]))
        assert sum(one.is_alive() for one in leaks.left[::2]) == 4
    finally:
        leaks.over.set()
        for thread, file in zip(leaks.left[::2], leaks.left[1::2], strict=True):
            thread.join()
            file.close()


# -- one instance, two runs ---------------------------------------------------------------


class Nests(Callback):
    """Trains inside of a run, with callbacks of its own."""

    def __init__(self, *inner: Any) -> None:
        self.inner = inner

    def on_epoch_end(self, epoch: int) -> None:
        if epoch == 0:
            fit(list(self.inner), epochs=1)


@pytest.mark.reliability("I5")
@pytest.mark.parametrize("run", [fit, attach])
def test_a_callback_of_a_run_under_way_is_refused_to_another(run: Any) -> None:
    """Its state would be that of both; the run that has it goes on as if nobody had asked."""
    sees = Sees()
    with pytest.raises(HookloopError, match=r"sees is in use by another run.*\nfix: "):
        run([sees, Nests(sees)])
    assert sees.count("on_train_begin") == sees.count("on_train_end") == 1
    fit([sees])  # over is over
    assert sees.count("on_train_end") == 2


@pytest.mark.reliability("I5")
def test_two_threads_have_callbacks_of_their_own() -> None:
    """A run in another thread is refused what this one has, and trains with what it has not."""
    sees, errors = Sees(), list[BaseException]()

    class Beside(Callback):
        def on_epoch_begin(self) -> None:
            def other(callback: Any) -> None:
                try:
                    with warnings.catch_warnings():
                        fit([callback], epochs=1)
                except BaseException as error:
                    errors.append(error)

            for callback in (sees, Sees()):
                thread = threading.Thread(target=other, args=(callback,))
                thread.start()
                thread.join()

    fit([sees, Beside()], epochs=1)
    [refused] = errors
    assert "sees is in use by another run" in str(refused)
    assert sees.count("on_train_begin") == 1
