"""Going on in skorch: partial_fit, a pickled net, and skorch's own checkpoints."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hookloop_in_skorch import HookloopCallback
from skorch import NeuralNetRegressor
from skorch.callbacks import Callback as SkorchCallback
from skorch.callbacks import Checkpoint, LoadInitState, LRScheduler, TrainEndCheckpoint
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn

from hookloop import Callback
from hookloop.errors import StateError

GENERATOR = np.random.default_rng(3)
X = GENERATOR.normal(size=(48, 4)).astype(np.float32)
Y = (X[:, :1] * X[:, 1:2] + GENERATOR.normal(size=(48, 1)) * 0.5).astype(np.float32)
EPOCHS, RATE = 16, 0.2
#: They decide in the epochs after the one in which the run breaks off.
DECIDE = [
    "early_stopping:patience=4,restore_best_weights=true",
    "reduce_lr_on_plateau:patience=1,factor=0.5",
]


class Net(nn.Sequential):
    """Big enough to get worse on validation data after some epochs; always with equal weights."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))


class Steps(Callback):
    """Has a tensor as its state: the sum of the gradients of the first bias."""

    def on_train_begin(self) -> None:
        self.total = torch.zeros(16)

    def on_before_optimizer_step(self) -> None:
        self.total = self.total + next(iter(self.model.children())).bias.grad

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total = state["total"].clone()


class Breaks(SkorchCallback):
    """Breaks off in the middle of an epoch, once."""

    def __init__(self, epoch: int = 5) -> None:
        self.epoch = epoch

    def on_batch_end(self, net: Any, training: bool = False, **_: Any) -> None:
        if training and len(net.history) == self.epoch and len(net.history[-1, "batches"]) == 2:
            raise ConnectionError


def net(*callbacks: Any, **settings: Any) -> Any:
    usual = {"max_epochs": EPOCHS, "batch_size": 8, "lr": RATE, "verbose": 0}
    split = predefined_split(Dataset(X[32:], Y[32:]))
    return NeuralNetRegressor(Net, train_split=split, callbacks=list(callbacks), **usual | settings)


def broken_off(*callbacks: Any, **settings: Any) -> None:
    with pytest.raises(ConnectionError):
        net(*callbacks, Breaks(), **settings).fit(X[:32], Y[:32])


def decisions(trained: Any) -> dict[str, Any]:
    history = trained.hookloop_.history
    return {
        "history": history.history,
        "epoch": history.epoch,
        "reason": history.stop_reason,
        "weights": [value.tolist() for value in trained.module_.state_dict().values()],
        "step": trained.hookloop_.bridge_.run.loop.step,
        "gradients": trained.hookloop_.bridge_.run.loop.callbacks["steps"].total.tolist(),
    }


def whole(**settings: Any) -> dict[str, Any]:
    """What the run that nothing interrupts decides."""
    trained = net(HookloopCallback([*DECIDE, Steps()]), **settings).fit(X[:32], Y[:32])
    found = decisions(trained)
    assert 6 < len(found["epoch"]) < EPOCHS
    assert len(set(found["history"]["lr"])) > 1
    return found


def saving() -> Checkpoint:
    """Save at the end of every epoch, the callbacks' state too."""
    return Checkpoint(monitor=None, dirname="saved", f_hookloop="hookloop.pt", event_name=None)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_pickled_net_goes_on_as_if_nothing_had_been() -> None:
    """The net that Checkpoint pickles holds the callbacks' state; partial_fit continues it."""
    wanted = whole()
    checkpoint = Checkpoint(monitor=None, f_pickle="net.pkl", event_name=None)
    broken_off(HookloopCallback([*DECIDE, Steps()]), checkpoint)

    again = pickle.loads(Path("net.pkl").read_bytes())
    again.set_params(max_epochs=EPOCHS - 4)
    again.callbacks_ = [pair for pair in again.callbacks_ if not isinstance(pair[1], Breaks)]
    again.partial_fit(X[:32], Y[:32])

    assert decisions(again) == wanted
    assert [name for name, _ in again.callbacks_ if name == "hookloop_last"] == []


def test_load_init_state_goes_on_as_if_nothing_had_been() -> None:
    """skorch's checkpoint with f_hookloop holds the callbacks' state, tensors too."""
    wanted = whole()
    broken_off(HookloopCallback([*DECIDE, Steps()]), saving())

    first = saving()
    again = net(
        HookloopCallback([*DECIDE, Steps()]), first, LoadInitState(first), max_epochs=EPOCHS - 4
    )
    again.fit(X[:32], Y[:32])

    assert decisions(again) == wanted
    assert again.hookloop_.bridge_.run.loop.resumed
    assert again.hookloop_.bridge_.run.loop.params["epochs"] == EPOCHS


def test_a_scheduler_of_skorch_and_a_rate_that_was_set_go_on_together() -> None:
    """A LambdaLR that begins anew starts from the rate that the callbacks had come to."""
    scheduler = {"policy": torch.optim.lr_scheduler.LambdaLR, "lr_lambda": shrink}
    trained = net(HookloopCallback(DECIDE), LRScheduler(**scheduler)).fit(X[:32], Y[:32])
    broken_off(HookloopCallback(DECIDE), LRScheduler(**scheduler), saving())
    first = saving()
    again = net(
        HookloopCallback(DECIDE),
        LoadInitState(first),
        LRScheduler(**scheduler),
        first,
        max_epochs=EPOCHS - 4,
    )
    again.fit(X[:32], Y[:32])

    rates = trained.hookloop_.history.history["lr"]
    assert again.hookloop_.history.history["lr"] == pytest.approx(rates)
    assert rates[-1] < RATE * shrink(len(rates))  # the callback has set it too


def shrink(epoch: int) -> float:
    return 0.97**epoch


def test_a_run_that_was_saved_as_stopped_trains_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    """Early stopping is not forgotten by a restart; one line says so."""
    first = saving()
    net(HookloopCallback(DECIDE), first).fit(X[:32], Y[:32])
    again = net(HookloopCallback(DECIDE), first, LoadInitState(first))
    again.fit(X[:32], Y[:32])

    rows = len(again.history)
    assert rows == len(again.hookloop_.history.epoch) < EPOCHS
    assert again.hookloop_.history.stop_reason.startswith("early_stopping")
    assert "The resumed run has ended already" in capsys.readouterr().out


def test_partial_fit_goes_on_counting() -> None:
    """Two calls are one long training to the callbacks, as they are to the net's history."""
    trained = net(HookloopCallback([*DECIDE, Steps()]), max_epochs=3)
    long = net(HookloopCallback([*DECIDE, Steps()]), max_epochs=6).fit(X[:32], Y[:32])
    trained.fit(X[:32], Y[:32])
    trained.partial_fit(X[:32], Y[:32])

    assert trained.hookloop_.history.epoch == [0, 1, 2, 3, 4, 5]
    assert trained.hookloop_.history.history["loss"] == long.hookloop_.history.history["loss"]
    assert trained.hookloop_.bridge_.run.loop.step == 24


def test_partial_fit_after_a_stop_trains_on() -> None:
    """Whoever calls it asks for more; the request that ended the last training is over."""
    trained = net(HookloopCallback(["early_stopping:patience=1"]), lr=0.0)
    trained.fit(X[:32], Y[:32])
    trained.partial_fit(X[:32], Y[:32])

    assert trained.hookloop_.history.epoch == [0, 1, 2]
    assert trained.hookloop_.history.outcome == "stopped"


def test_partial_fit_after_an_interrupt_repeats_the_epoch() -> None:
    """The epoch that was broken off has no row and comes again."""
    trained = net(HookloopCallback(DECIDE), Breaks(2), max_epochs=3)
    with pytest.raises(ConnectionError):
        trained.fit(X[:32], Y[:32])
    trained.partial_fit(X[:32], Y[:32])

    assert trained.hookloop_.history.epoch == [0, 1, 2, 3]


def test_the_last_state_of_a_training_can_be_continued() -> None:
    """TrainEndCheckpoint and LoadInitState: a training in several calls of fit."""
    ends = TrainEndCheckpoint(dirname="saved", f_hookloop="hookloop.pt")
    callbacks = [HookloopCallback(["csv_logger:filename=log.csv"]), ends, LoadInitState(ends)]
    net(*callbacks, max_epochs=2).fit(X[:32], Y[:32])
    again = net(*callbacks, max_epochs=2).fit(X[:32], Y[:32])

    assert again.hookloop_.history.epoch == [0, 1, 2, 3]
    assert len(Path("log.csv").read_text().splitlines()) == 5


def test_two_bridges_keep_their_states_apart() -> None:
    """Each has a name, a file, and its own callbacks in it."""
    one = HookloopCallback(["early_stopping:patience=3"])
    two = HookloopCallback(["early_stopping:patience=5"], name="other")
    checkpoint = Checkpoint(
        monitor=None, f_hookloop="one.pt", f_other="two.pt", f_pickle="net.pkl", event_name=None
    )
    trained = net(one, two, checkpoint, max_epochs=2).fit(X[:32], Y[:32])

    for file, patience in (("one.pt", 3), ("two.pt", 5)):
        saved = torch.load(file, weights_only=True)
        assert saved["callbacks"]["early_stopping"]["settings"]["patience"] == patience
    again = pickle.loads(Path("net.pkl").read_bytes())
    again.partial_fit(X[:32], Y[:32])
    assert again.other_.history.epoch == again.hookloop_.history.epoch == [0, 1, 2, 3]
    assert trained.other_ is two


def test_a_changed_setting_is_refused() -> None:
    """Before the first batch, with both."""
    first = saving()
    net(HookloopCallback(["early_stopping:patience=3"]), first, max_epochs=1).fit(X[:32], Y[:32])
    again = net(HookloopCallback(["early_stopping:patience=4"]), first, LoadInitState(first))
    with pytest.raises(StateError, match="saved with patience=3; now it has patience=4"):
        again.fit(X[:32], Y[:32])


def test_added_and_removed_callbacks_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """They are no reason to refuse."""
    first = saving()
    net(HookloopCallback(DECIDE[:1]), first, max_epochs=1).fit(X[:32], Y[:32])
    again = net(HookloopCallback(DECIDE[1:]), first, LoadInitState(first), max_epochs=1)
    again.fit(X[:32], Y[:32])

    said = capsys.readouterr().out
    assert "added: reduce_lr_on_plateau; removed: early_stopping" in said
