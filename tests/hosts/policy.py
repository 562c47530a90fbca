"""What follows an exception of a callback, as one table for every hook and every host.

A test of a host makes a `Table` of a function that trains with the callbacks it is given, in its
own way, and returns the weights that come out; it checks every one of `hooks` in both roles.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import agreement
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, hookspecs
from hookloop.capabilities import HOSTS

Train = Callable[[list[Any]], Tensor]
PREDICTS = ("on_predict_begin", "on_predict_batch_begin", "on_predict_batch_end", "on_predict_end")
ROLES = {"observer": True, "decider": False}


def hooks(host: str) -> list[str]:
    """Give the hooks that training in a host fires, and those that answer what others do."""
    lacking = {
        hook for f, names in agreement.HOOKS_OF.items() if f not in HOSTS[host] for hook in names
    }
    return [hook for hook in hookspecs.names() if hook not in lacking and hook not in PREDICTS]


class PlantedError(Exception):
    """What the callback under test raises."""


class Fails(Callback):
    """Raises whenever one hook is called, and counts how often that is."""

    def __init__(self, hook: str, error: BaseException, *, observer: bool = False) -> None:
        self.observer, self.calls, self.error = observer, 0, error

        def explode() -> None:
            self.calls += 1
            raise self.error

        setattr(self, hook, explode)


class Sees(Callback):
    """Notes every hook it sees; shows no message, so that those who come later are asked too."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def count(self, hook: str) -> int:
        return self.calls.count(hook)


def _noting(hook: str) -> Any:
    def note(self: Sees) -> None:
        self.calls.append(hook)

    return note


for _hook in hookspecs.names():
    setattr(Sees, _hook, _noting(_hook))


class Provokes(Callback):
    """Does what makes the loop call a hook that ordinary training does not."""

    def __init__(self, hook: str) -> None:
        self.hook = hook

    def on_epoch_begin(self, epoch: int) -> None:
        if self.hook == "on_message":
            self.loop.message(f"epoch {epoch}")

    def on_epoch_end(self) -> None:
        if self.hook == "on_exception":
            raise RuntimeError("provoked")


class Ends(Callback):
    """Ends a run by an exception when its second epoch begins."""

    def on_epoch_begin(self, epoch: int) -> None:
        if epoch == 1:
            raise RuntimeError("no power")


@dataclass
class Run:
    """What came of a training with a callback that fails, or does not."""

    first: Sees
    fails: Fails
    last: Sees
    weights: Tensor | None
    raised: BaseException | None
    warned: list[str]


def run(train: Train, hook: str, fails: Fails) -> Run:
    """Train with a callback between two others, and one that provokes the hook."""
    first, last = Sees(), Sees()
    weights = raised = None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            weights = train([Provokes(hook), first, fails, last])
        except BaseException as caught:
            raised = caught
    ours = [str(one.message) for one in warned if "fails failed in" in str(one.message)]
    return Run(first, fails, last, weights, raised, ours)


class Table:
    """The policy of one host.

    Args:
        train: Trains two epochs of two batches, each with a validation of one, in order.
    """

    def __init__(self, train: Train) -> None:
        self.train = train
        self._references: dict[str, Run] = {}

    def reference(self, hook: str) -> Run:
        """Give a training in which nothing fails, but what provokes the hook."""
        kind = hook if hook in ("on_message", "on_exception") else "nothing"
        if kind not in self._references:
            self._references[kind] = run(self.train, kind, Fails("nothing", PlantedError()))
        return self._references[kind]

    def check(self, hook: str, role: str) -> None:
        """Train with a callback of some role that fails in a hook, and check what follows."""
        fails = Fails(hook, PlantedError(hook), observer=ROLES[role])
        found = run(self.train, hook, fails)
        assert fails.calls == 1
        (check_observer if fails.observer else check_decider)(hook, found, self.reference(hook))


def check_observer(hook: str, found: Run, wanted: Run) -> None:
    """It is warned of once, and off; everything else is as without it."""
    [warning] = found.warned
    assert warning.startswith(f"fails failed in {hook}")
    assert f"PlantedError: {hook}" in warning
    assert type(found.raised) is type(wanted.raised)
    for one, other in ((found.first, wanted.first), (found.last, wanted.last)):
        assert _told(one.calls) == _told(other.calls)
    if wanted.weights is not None:
        assert found.weights is not None
        assert torch.equal(found.weights, wanted.weights)


def check_decider(hook: str, found: Run, wanted: Run) -> None:
    """Its exception ends the run as it is, and every callback sees the end of what it saw begin."""
    assert found.warned == []
    assert found.raised is not None
    notes = getattr(found.raised, "__notes__", [])
    if hook == "on_exception":
        assert type(found.raised) is RuntimeError
        assert "and then PlantedError: on_exception" in notes
    else:
        assert found.raised is found.fails.error
        said = [note for note in notes if note.startswith("raised by callback 'fails'")]
        assert [note.partition(" (")[0] for note in said] == [
            f"raised by callback 'fails' in {hook}"
        ]
        assert "explode" in "".join(traceback.format_tb(found.raised.__traceback__))
    first, last = expected(hook, wanted.first.calls)
    assert _told(found.first.calls) == first
    assert _told(found.last.calls) == last


def expected(hook: str, whole: list[str]) -> tuple[list[str], list[str]]:
    """Tell what those before and behind a callback see that fails when a hook is first called."""
    before = _told(whole[: whole.index(hook) + 1])
    seen = before if hook in (*SHIELDED, "on_message") else before[:-1]
    ends = {"on_train_end": [], "on_exception": ["on_train_end"]}.get(hook, list(ENDS))
    behind = [] if hook == "on_train_begin" else [*seen, *_test_end(seen), *ends]
    return [*before, *_test_end(before), *ends], behind


ENDS = ("on_exception", "on_train_end")
SHIELDED = ("on_exception", "on_train_end", "on_test_end")  # a failure keeps nobody from these


def _test_end(calls: list[str]) -> list[str]:
    """Give the end of a test that has begun and not ended."""
    is_open = calls.count("on_test_begin") > calls.count("on_test_end")
    return ["on_test_end"] if is_open else []


def _told(calls: list[str]) -> list[str]:
    """Leave out messages: that a callback is off is one more."""
    return [hook for hook in calls if hook != "on_message"]


# -- what every host trains ----------------------------------------------------------------------


def arrays(split: str) -> tuple[Tensor, Tensor]:
    """Give two batches of training, or one of validation, of 16 samples each."""
    x, y = agreement.arrays(split)
    rows = slice(0, 2 * agreement.BATCH if split == "training" else agreement.BATCH)
    return x[rows], y[rows]


def batches(split: str) -> DataLoader[Any]:
    """Give the same in a loader."""
    return DataLoader(TensorDataset(*arrays(split)), agreement.BATCH)


def vector(model: nn.Module) -> Tensor:
    """Give the weights of a model."""
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()
