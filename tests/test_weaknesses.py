"""Weaknesses of Keras that hookloop is not to have: those that no other test covers, and the table.

`docs/keras.md` names for each of the forty weaknesses a test that fails on what Keras does.
"""

from __future__ import annotations

import ast
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import Callback, CallbackList, Trainer, load
from hookloop.checkpoints import save_state

ROOT = Path(__file__).resolve().parent.parent
X = torch.linspace(-1, 1, 16).reshape(8, 2)
Y = X.sum(1, keepdim=True)


def trainer(**options: Any) -> Trainer:
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    return Trainer(model, loss="mse", optimizer="sgd:lr=0.1", device="cpu", seed=0, **options)


# -- the table ------------------------------------------------------------------------------------


def rows() -> list[tuple[str, str]]:
    """The rows of the table: number of the weakness, and what stands in the last column."""
    text = (ROOT / "docs" / "keras.md").read_text(encoding="utf-8")
    section = text.partition("\n## Weaknesses W1 to W40\n")[2].partition("\n## ")[0]
    cells = [re.split(r"(?<!\\) \| ", row.strip("| ")) for row in section.splitlines()]
    return [(row[0], row[-1]) for row in cells if re.fullmatch(r"W\d+", row[0])]


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_each_weakness_has_one_row() -> None:
    """None of the forty is left out, and none is told twice."""
    assert [number for number, _ in rows()] == [f"W{number}" for number in range(1, 41)]


@pytest.mark.parametrize(("number", "cell"), rows(), ids=[number for number, _ in rows()])
def test_each_weakness_names_tests_that_exist_or_says_why_not(number: str, cell: str) -> None:
    """Whoever reads the table can run what it names."""
    named = re.findall(r"`([\w/.]+\.py)::(\w+)`", cell)

    if not named:
        assert re.match(r"not applicable: \w", cell), f"{number} names no test"
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file() or name not in functions_of(ROOT / path)
    ]
    assert missing == []


# -- what no other test covers --------------------------------------------------------------------


def test_a_fit_after_a_resumed_one_trains_all_its_epochs(tmp_path: Path) -> None:
    """W3: in Keras a restored backup leaves its epoch behind, and later fits train nothing."""

    class Saves(Callback):
        def on_epoch_checkpoint(self, epoch: int) -> None:
            if epoch == 1:
                save_state(tmp_path / "run.pt", self.loop.state_dict())

    trainer().fit((X, Y), epochs=2, callbacks=[Saves()], verbose=0)
    run = trainer()
    resumed = run.fit((X, Y), epochs=3, resume=tmp_path / "run.pt", verbose=0)
    later = run.fit((X, Y), epochs=2, verbose=0)

    assert (resumed.epoch, later.epoch) == ([0, 1, 2], [0, 1])
    assert len(later.history["loss"]) == 2


def test_a_schedule_s_own_type_error_is_raised_after_one_call() -> None:
    """W19: Keras takes it for a schedule without lr, and calls it again, without."""
    calls = []

    def schedule(epoch: int, lr: float = 0.1) -> float:
        calls.append(epoch)
        raise TypeError("a mistake in the schedule")

    with pytest.raises(TypeError, match="a mistake in the schedule"):
        trainer().fit(
            (X, Y), callbacks=[load("learning_rate_scheduler", schedule=schedule)], verbose=0
        )

    assert calls == [0]


class Counted:
    """Stands for a 0-d tensor on an accelerator: it counts how often somebody waits for it."""

    ndim = 0
    reads = 0

    def item(self) -> float:
        self.reads += 1
        return 0.5


def test_callbacks_that_work_by_the_epoch_read_no_number_of_a_batch(tmp_path: Path) -> None:
    """W21: in Keras any batch hook in the list has every metric of every batch read."""

    class Looks(Callback):
        def on_train_batch_end(self, batch: int, logs: Any) -> None:
            assert "loss" in logs

    chosen = [
        {"model_checkpoint": {"filepath": tmp_path / "m.pt", "save_weights_only": True}},
        "early_stopping:monitor=loss",
        {"csv_logger": {"filename": tmp_path / "log.csv"}},
        Looks(),
    ]
    run = CallbackList(chosen, model=torch.nn.Linear(1, 1))
    losses = [Counted() for _ in range(20)]
    run.on_train_begin()
    run.on_epoch_begin(0)
    for batch, loss in enumerate(losses):
        run.on_train_batch_begin(batch)
        run.on_train_batch_end(batch, {"loss": loss})
    run.on_epoch_end(0, {"loss": 0.5})
    run.on_train_end()

    assert sum(loss.reads for loss in losses) == 0


def test_every_hook_runs_in_order_in_the_thread_of_the_loop() -> None:
    """W22: Keras runs batch hooks in a pool of threads, unordered, where nobody overrides one."""
    seen = []

    class Notes(Callback):
        def on_train_batch_begin(self, batch: int) -> None:
            seen.append((batch, "begin", threading.get_ident()))

        def on_train_batch_end(self, batch: int) -> None:
            seen.append((batch, "end", threading.get_ident()))

    trainer().fit((X, Y), batch_size=1, callbacks=[Notes()], verbose=0)

    here = threading.get_ident()
    assert seen == [(batch, edge, here) for batch in range(8) for edge in ("begin", "end")]


@pytest.mark.parametrize("wrapped", [lambda one: one, lambda one: [one]], ids=["bare", "in a list"])
def test_a_bare_callback_does_what_it_does_in_a_list(wrapped: Any) -> None:
    """W23: in Keras a further step runs before the exception of a bare callback is raised."""

    class Raises(Callback):
        def on_train_batch_end(self, batch: int) -> None:
            if batch == 1:
                raise RuntimeError("bad")

    run = trainer()
    model = torch.nn.Linear(2, 1)
    model.load_state_dict(run.model.state_dict())
    with pytest.raises(RuntimeError, match="bad"):
        run.fit((X, Y), batch_size=2, shuffle=False, callbacks=wrapped(Raises()), verbose=0)
    step = torch.optim.SGD(model.parameters(), lr=0.1)
    for begin in (0, 2):
        step.zero_grad()
        torch.nn.functional.mse_loss(model(X[begin : begin + 2]), Y[begin : begin + 2]).backward()
        step.step()

    assert torch.equal(run.model.weight, model.weight)


def test_a_nested_fit_takes_no_stop_request_back() -> None:
    """W26: in Keras a fit inside of a callback resets the one flag, and training goes on."""

    class Nests(Callback):
        def on_epoch_end(self, epoch: int) -> None:
            self.loop.stop("enough")
            Trainer(torch.nn.Linear(2, 1), loss="mse", optimizer="sgd:lr=0.1", device="cpu").fit(
                (X, Y), epochs=2, verbose=0
            )

    history = trainer().fit((X, Y), epochs=5, callbacks=[Nests()], verbose=0)

    assert (history.epoch, history.outcome, history.stop_reason) == ([0], "stopped", "enough")


def test_a_nested_fit_of_the_same_model_takes_no_stop_request_back() -> None:
    """W26: also where it trains the very model, with a flag set on it."""

    class Nests(Callback):
        def on_epoch_end(self, epoch: int) -> None:
            self.model.stop_training = True
            self.loop.stop("enough")
            Trainer(self.model, loss="mse", optimizer="sgd:lr=0.1", device="cpu").fit(
                (X, Y), verbose=0
            )

    history = trainer().fit((X, Y), epochs=5, callbacks=[Nests()], verbose=0)

    assert (history.epoch, history.outcome) == ([0], "stopped")
    assert "enough" in history.stop_reason


def test_a_list_of_callbacks_needs_no_parameters_for_a_progress_bar(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """W30: in Keras it wants verbose, epochs and steps, and the list has no append."""
    run = CallbackList(model=None)
    run.append("progbar_logger")
    run.on_train_begin()
    run.on_epoch_begin(0)
    run.on_epoch_end(0, {"loss": 0.5})
    run.on_train_end()

    assert [type(one).__name__ for one in run] == ["ProgbarLogger"]
    assert "loss: 0.5000" in capsys.readouterr().out


def test_logs_reach_callbacks_with_all_their_names_in_their_order() -> None:
    """W38: Keras drops the outer name of a nested mapping, sorts, and passes over any failure."""
    seen = []

    class Notes(Callback):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            seen.append(dict(logs))

    class Unreadable:
        ndim = 0

        def item(self) -> float:
            raise RuntimeError("the device is gone")

    run = CallbackList([Notes()], model=None)
    run.on_train_begin()
    run.on_epoch_end(0, {"loss": 0.5, "a": {"x": 1.0}, "b": {"x": 2.0}})
    with pytest.raises(RuntimeError, match="the device is gone"):
        run.on_epoch_end(1, {"loss": Unreadable()})

    assert seen == [{"loss": 0.5, "a": {"x": 1.0}, "b": {"x": 2.0}}]
    assert list(seen[0]) == ["loss", "a", "b"]
