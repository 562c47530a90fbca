"""The state of a run: refused whole where it does not fit, and checked before training."""

from __future__ import annotations

import copy
from collections import Counter, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hookloop import Callback, CallbackList, Trainer, hookimpl
from hookloop.errors import StateError


class Counts(Callback):
    """Has a setting and a state."""

    def __init__(self, start: int = 0) -> None:
        self.start = start
        self.count = start

    def on_train_begin(self) -> None:
        self.count = self.start

    def on_train_batch_end(self) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Any) -> None:
        self.count = state["count"]


class Watcher(Callback):
    """Has a setting and no state."""

    def __init__(self, every: int = 1) -> None:
        self.every = every

    def on_train_batch_end(self) -> None:
        pass


class Saver(Callback):
    """Takes the state at the checkpoint hooks."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []

    def on_batch_checkpoint(self) -> None:
        self.states.append(copy.deepcopy(self.loop.state_dict()))

    def on_epoch_checkpoint(self) -> None:
        self.states.append(copy.deepcopy(self.loop.state_dict()))


class Restorer(Callback):
    def __init__(self, state: Any) -> None:
        self.state = state

    @hookimpl(tryfirst=True)
    def on_train_begin(self) -> None:
        self.loop.load_state_dict(self.state)


def trained(*callbacks: Any, model: nn.Module | None = None) -> tuple[CallbackList, nn.Module]:
    """Run one epoch of two batches by hand."""
    model = model or nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hooks = CallbackList(list(callbacks), model=model, optimizer=optimizer)
    hooks.on_train_begin()
    hooks.on_epoch_begin(0)
    for batch in range(2):
        hooks.on_train_batch_begin(batch)
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        hooks.on_train_batch_end(batch, {"size": 1, "loss": 1.0})
    hooks.on_epoch_end(0, {"loss": 1.0})
    return hooks, model


def state_after(*callbacks: Any) -> dict[str, Any]:
    saver = Saver()
    trained(saver, *callbacks)
    return saver.states[-1]


def test_a_state_says_where_the_next_batch_is() -> None:
    """Position and steps at each checkpoint hook."""
    saver = Saver()
    trained(saver)
    found = [[state["loop"][key] for key in ("epoch", "batch", "step")] for state in saver.states]
    assert found == [[0, 1, 1], [0, 2, 2], [1, 0, 2]]


@pytest.mark.reliability("A5")
def test_a_state_names_all_callbacks_with_their_settings() -> None:
    """Those without a state, too, so that somebody can say what begins afresh."""
    state = state_after(Counts(start=3), Watcher(every=2))
    assert state["callbacks"] == {
        "saver": {"settings": {}, "state": None},
        "counts": {"settings": {"start": 3}, "state": {"count": 5}},
        "watcher": {"settings": {"every": 2}, "state": None},
    }


def test_a_state_can_be_taken_at_the_checkpoint_hooks_only() -> None:
    """Elsewhere a part of the batch would be missing from it."""

    class Early(Callback):
        def on_train_batch_end(self) -> None:
            self.loop.state_dict()

    with pytest.raises(StateError) as caught:
        trained(Early())
    assert str(caught.value) == (
        "The state of a run can only be taken at its checkpoint hooks."
        "\nfix: call loop.state_dict() in on_batch_checkpoint or on_epoch_checkpoint"
    )


def test_begin_hooks_do_not_undo_what_is_restored() -> None:
    """Counters are there at once; callbacks, model and optimizers after the begin hooks."""
    counts = Counts()
    state = state_after(counts)
    assert counts.count == 2
    seen: list[Any] = []

    class Looks(Callback):
        def on_train_begin(self) -> None:
            seen.append((self.loop.resumed, self.loop.step, self.loop.epoch))

    fresh, model = Counts(), nn.Linear(2, 1)
    hooks = CallbackList([Looks(), fresh, Restorer(state)], model=model)
    with pytest.raises(StateError, match="of groups"):
        hooks.on_train_begin()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    hooks = CallbackList([Looks(), fresh, Restorer(state)], model=model, optimizer=optimizer)
    hooks.on_train_begin()
    assert seen == [(True, 2, 1)]
    assert fresh.count == 2
    assert torch.equal(model.state_dict()["weight"], state["model"]["weight"])
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_added_and_removed_callbacks_are_reported_not_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line names both."""
    state = state_after(Counts())
    new = Counts()
    new.name = "fresh"
    trained(Restorer(state), new)
    assert capsys.readouterr().out == (
        "Since the state was saved, callbacks were added: fresh; removed: counts. "
        "Those added begin afresh.\n"
    )


def test_of_callbacks_only_what_happened_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """Where none was added, nothing is said of those."""
    trained(Restorer(state_after(Counts())))
    said = "Since the state was saved, callbacks were removed: counts.\n"
    assert capsys.readouterr().out == said


def changed(state: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    state = copy.deepcopy(state)
    inner: Any = state
    for key in path[:-1]:
        inner = inner[key]
    if to is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return state


REFUSED: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "format": (
        ("format",),
        "x",
        "This is not the saved state of a run.\n"
        "fix: pass what loop.state_dict() gave; weights: load_weights()",
    ),
    "version": (
        ("version",),
        2,
        "The state is of version 2; this hookloop reads 1.\nfix: pip install --upgrade hookloop",
    ),
    "section": (("rng",), None, "The state lacks rng.\nfix: use an intact one"),
    "weight": (
        ("model", "weight"),
        torch.zeros(3, 1),
        "The state is of another model: weight has shape (3, 1), this model (1, 2).\n"
        "fix: build the model as it was when the state was saved",
    ),
    "missing weight": (
        ("model", "bias"),
        None,
        "The state is of another model: bias is missing.\n"
        "fix: build the model as it was when the state was saved",
    ),
    "optimizers": (
        ("optimizers",),
        [],
        "The state has optimizers of groups [], this run of [[2]].\n"
        "fix: make the optimizers as they were",
    ),
    "settings": (
        ("callbacks", "counts", "settings"),
        {"start": 5},
        "The state of callback 'counts' was saved with start=5; now it has start=0.\n"
        "fix: use the same settings, or give it another name= to begin afresh",
    ),
    "counters": (
        ("loop", "step"),
        None,
        "The state lacks step of its loop.\nfix: use an intact one",
    ),
}


@pytest.mark.parametrize(("path", "to", "text"), REFUSED.values(), ids=REFUSED)
def test_a_state_that_does_not_fit_is_refused_before_anything_changes(
    path: tuple[Any, ...], to: Any, text: str
) -> None:
    """The sentence names what differs; model and counters stay as they are."""
    state = changed(state_after(Counts()), *path, to=to)
    model, seen = nn.Linear(2, 1), []
    before = {key: value.clone() for key, value in model.state_dict().items()}

    class Looks(Callback):
        def on_exception(self) -> None:
            seen.append((self.loop.resumed, self.loop.step))

    with pytest.raises(StateError) as caught:
        trained(Restorer(state), Counts(), Looks(), model=model)
    assert str(caught.value) == text
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert seen == [(False, 0)]


NOT_PLAIN: list[tuple[Any, str]] = [
    (np.float64(1), "float64 at counts['x']"),
    (np.zeros(1), "ndarray at counts['x']"),
    (deque([1]), "deque at counts['x']"),
    (Counter("a"), "Counter at counts['x']"),
    (Path("x"), "PosixPath at counts['x']"),
    ({"y": [1, {2}]}, "set at counts['x']['y'][1]"),
    ({(1, 2): 3}, "tuple at counts['x'][(1, 2)] (a key)"),
    ({1.5: 3}, "float at counts['x'][1.5] (a key)"),
    (b"x", "bytes at counts['x']"),
]


@pytest.mark.parametrize(("value", "where"), NOT_PLAIN, ids=[where for _, where in NOT_PLAIN])
def test_a_state_that_could_not_be_saved_is_refused_when_the_run_starts(
    value: Any, where: str
) -> None:
    """Not at the first save, hours later."""

    class Bad(Counts):
        name = "counts"

        def state_dict(self) -> dict[str, Any]:
            return {"x": value}

    ends: list[str] = []

    class Ends(Callback):
        def on_train_end(self) -> None:
            ends.append("end")

    with pytest.raises(StateError) as caught:
        trained(Ends(), Bad())
    assert str(caught.value) == (
        f"The state of callback 'counts' holds a {where}."
        "\nfix: keep numbers, text, None, lists, dicts and tensors in it"
    )
    assert ends == ["end"]


def test_stop_requests_of_callbacks_are_in_the_state() -> None:
    """A run restored as stopped draws no further batch."""

    class Stops(Callback):
        def on_train_batch_end(self, batch: int) -> None:
            if batch == 1:
                self.loop.stop("enough", failed=True)

    state = state_after(Stops())
    assert state["loop"]["stops"] == [["enough", True]]
    hooks, _ = trained(Restorer(state))
    assert (hooks.loop.stop_training, hooks.loop.stop_reason) == (True, "enough")


class Frail(Callback):
    """Watches, and fails when it is asked for its state."""

    observer = True

    def on_epoch_end(self) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        raise KeyError("zzz")

    def load_state_dict(self, state: Any) -> None:
        pass


def fit_with(callback: Callback) -> None:
    x = torch.zeros(4, 1)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd")
    trainer.fit((x, x), callbacks=[callback], verbose=0)


def test_an_observer_that_cannot_give_its_state_is_turned_off() -> None:
    """It takes no run down, there as little as in a hook."""
    with pytest.warns(RuntimeWarning, match="frail failed in state_dict"):
        fit_with(Frail())


def test_whoever_decides_and_cannot_give_its_state_is_named() -> None:
    """The exception keeps its type, and says whose it is."""
    callback = Frail()
    callback.observer = False
    with pytest.raises(KeyError) as raised:
        fit_with(callback)
    assert raised.value.__notes__ == ["raised by callback 'frail' in state_dict"]
