"""What a bridge is made of: which process runs which callbacks, runs aside, and a state on hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hookloop import Callback, Logs
from hookloop.capabilities import HOSTS
from hookloop.hosting import Bridge, BridgeLoop


class TestLoop(BridgeLoop):
    """A loop of a bridge to nothing."""

    __test__ = False
    host = "attach"
    features = HOSTS[host]


class Watches(Callback):
    observer = True


class Saves(Callback):
    ranks = "zero"


class WatchesAll(Callback):
    observer = True
    ranks = "all"


class Acts(Callback):
    """Counts the tests it sees, and has that as its state."""

    def __init__(self) -> None:
        self.tests = 0
        self.logs: dict[str, Any] = {}

    def on_test_end(self) -> None:
        self.tests += 1

    def on_epoch_end(self, logs) -> None:
        self.logs = dict(logs)

    def state_dict(self) -> dict[str, Any]:
        return {"tests": self.tests}

    def load_state_dict(self, state) -> None:
        self.tests = state["tests"]


ABOUT: dict[str, Any] = {"model": torch.nn.Linear(1, 1)}


@pytest.mark.parametrize(
    ("rank", "names"),
    [(0, ["watches", "saves", "watches_all", "acts"]), (1, ["watches_all", "acts"])],
)
def test_what_is_of_rank_zero_runs_there_alone(rank: int, names: list[str]) -> None:
    """Observers do unless they say otherwise; others run everywhere unless they say otherwise."""
    bridge = Bridge([Watches(), Saves(), WatchesAll(), Acts()])

    run = bridge.begin(TestLoop, rank=rank, world_size=2, **ABOUT)

    assert list(run.loop.callbacks) == ["base_logger", *names, "history"]
    assert (run.loop.rank, run.loop.world_size, run.loop.is_main) == (rank, 2, rank == 0)


def test_validation_may_be_named_by_the_framework() -> None:
    """val_<key> is the name in the epoch's logs unless the host knows another one."""
    acts = Acts()
    run = Bridge([acts]).begin(TestLoop, **ABOUT)
    run.driver.epoch_begin(0)
    run.driver.test_begin()

    run.driver.test_end(Logs({"loss": 1.0, "valid_acc": 0.5}), {"valid_acc": "valid_acc"})
    run.driver.epoch_end({})

    assert acts.logs == {"val_loss": 1.0, "valid_acc": 0.5}


def test_an_evaluation_aside_leaves_the_run_of_training_as_it_was() -> None:
    """Its hooks are fired, and the history stays that of the training."""
    acts = Acts()
    bridge = Bridge([acts])
    bridge.begin(TestLoop, **ABOUT).end()
    history = bridge.history

    aside = bridge.aside(TestLoop, **ABOUT)
    aside.driver.test_begin()
    aside.driver.test_end(Logs({"loss": 1.0}))
    aside.close()

    assert acts.tests == 1
    assert bridge.history is history
    assert aside.loop.history is not history


def test_a_state_that_the_callbacks_have_not_got_back_yet_is_handed_on() -> None:
    """A checkpoint saved between the begin of a resumed run and its epoch loses nothing."""
    first = Bridge([Acts()])
    first.begin(TestLoop, **ABOUT).loop.callbacks["acts"].tests = 7
    saved = first.state_dict((2, 3))  # of the middle of an epoch: put back when that begins
    acts = Acts()
    second = Bridge([acts])
    second.load_state_dict(saved)
    assert second.waiting

    run = second.begin(TestLoop, **ABOUT)

    assert (second.waiting, acts.tests) == (False, 0)
    assert second.state_dict((0, 0)) == saved
    run.driver.epoch_begin(2)
    assert acts.tests == 7
