"""Going on in Ignite, from its own Checkpoint: at the end of an epoch, and inside one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import agreement
import hookloop_in_ignite
import pytest
import torch
from ignite.engine import Engine, Events, create_supervised_evaluator
from ignite.engine.deterministic import DeterministicEngine
from ignite.handlers import Checkpoint, DiskSaver
from ignite.metrics import Loss
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback
from hookloop.errors import StateError

EPOCHS, RATE = 16, 0.2
#: They decide in the epochs after the one in which the run breaks off.
DECIDE = [
    "early_stopping:patience=4,restore_best_weights=true",
    "reduce_lr_on_plateau:patience=1,factor=0.5",
    "model_checkpoint:filepath=best.weights.pt,save_best_only=true",
]


class Gradients(Callback):
    """Has a tensor as its state: the sum of the gradients of the last bias."""

    def on_train_begin(self) -> None:
        self.total = torch.zeros(1)

    def on_before_optimizer_step(self) -> None:
        self.total = self.total + self.model[2].bias.grad

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total = state["total"].clone()


class Case:
    """A small network on few samples, with everything that a checkpoint has to hold."""

    def __init__(self, callbacks: list[Any], kind: Any = Engine, **settings: Any) -> None:
        self.model = agreement.model()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=RATE)
        loss_fn = nn.MSELoss()

        def step(engine: Engine, batch: tuple[Tensor, Tensor]) -> float:
            self.optimizer.zero_grad()
            loss = loss_fn(self.model(batch[0]), batch[1])
            loss.backward()
            self.optimizer.step()
            return loss.item()

        self.trainer = kind(step)
        self.evaluator = create_supervised_evaluator(self.model, {"loss": Loss(loss_fn)})
        self.gradients = Gradients()
        usual = {"run_validation": lambda: self.evaluator.run([agreement.arrays("validation")])}
        self.attached = hookloop_in_ignite.attach(
            self.trainer,
            [*callbacks, self.gradients],
            model=self.model,
            optimizer=self.optimizer,
            evaluator=self.evaluator,
            **usual | settings,
        )
        self.state = {
            "model": self.model,
            "optimizer": self.optimizer,
            "trainer": self.trainer,
            "hookloop": self.attached,
        }

    def save_at(self, event: Any, of: str = "trainer") -> None:
        saver = Checkpoint(
            self.state,
            DiskSaver("saved", require_empty=False),
            n_saved=1,
            global_step_transform=lambda *_: self.trainer.state.iteration,
        )
        getattr(self, of).add_event_handler(event, saver)

    def break_off(self, iteration: int) -> None:
        def fails(engine: Engine) -> None:
            raise ConnectionError

        self.trainer.add_event_handler(Events.ITERATION_STARTED(once=iteration), fails)
        with pytest.raises(ConnectionError):
            self.run()

    def run(self, epochs: int = EPOCHS) -> Case:
        data = TensorDataset(*agreement.arrays("training"))
        self.trainer.run(DataLoader(data, 40), max_epochs=epochs)
        return self

    def load(self) -> Case:
        [path] = Path("saved").iterdir()
        # The state of a DeterministicEngine holds arrays of NumPy.
        saved = torch.load(path, weights_only=type(self.trainer) is Engine)
        Checkpoint.load_objects(to_load=self.state, checkpoint=saved)
        return self

    def decisions(self) -> dict[str, Any]:
        history = self.attached.history
        return {
            "history": history.history,
            "epoch": history.epoch,
            "reason": history.stop_reason,
            "weights": [value.tolist() for value in self.model.state_dict().values()],
            "step": self.attached.bridge.run.loop.step,
            "gradients": self.gradients.total.tolist(),
            "best": torch.load("best.weights.pt", weights_only=True)["0.bias"].tolist(),
        }


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


PLACES: dict[str, Any] = {
    "at the end of an epoch": (Engine, "trainer", Events.EPOCH_COMPLETED, 18),
    "after its last batch": (Engine, "trainer", Events.ITERATION_COMPLETED(every=4), 18),
    "when validation is done": (Engine, "evaluator", Events.COMPLETED, 18),
    # Only this engine goes on with the batch that comes next, and not with the first.
    "inside": (DeterministicEngine, "trainer", Events.ITERATION_COMPLETED(every=3), 16),
}


@pytest.mark.parametrize(("kind", "of", "event", "broken"), PLACES.values(), ids=PLACES)
def test_a_run_goes_on_as_if_nothing_had_been(kind: Any, of: str, event: Any, broken: int) -> None:
    """Decisions, history, best weights and a tensor of a callback, as in the run that went on."""
    whole = Case(DECIDE, kind).run().decisions()
    assert 6 < len(whole["epoch"]) < EPOCHS
    assert len(set(whole["history"]["lr"])) > 1
    Path("best.weights.pt").unlink()
    first = Case(DECIDE, kind)
    first.save_at(event, of)
    first.break_off(broken)

    again = Case(DECIDE, kind).load().run()

    assert again.decisions() == whole
    assert again.attached.bridge.run.loop.resumed


def test_a_run_that_was_saved_as_stopped_trains_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    """Early stopping is not forgotten by a restart; one line says so."""
    first = Case(DECIDE)
    first.save_at(Events.EPOCH_COMPLETED)
    first.run()
    again = Case(DECIDE).load().run()

    assert again.attached.history.epoch == first.attached.history.epoch
    assert again.attached.history.stop_reason == first.attached.history.stop_reason
    assert "The resumed run has ended already" in capsys.readouterr().out


def test_two_bridges_keep_their_states_apart() -> None:
    """Each is an object of its own in to_save."""
    case = Case(["early_stopping:patience=3"])
    other = hookloop_in_ignite.attach(
        case.trainer,
        ["early_stopping:patience=5,monitor=loss"],
        model=case.model,
        optimizer=case.optimizer,
    )
    case.state["other"] = other
    case.save_at(Events.EPOCH_COMPLETED)
    case.run(2)

    [path] = Path("saved").iterdir()
    saved = torch.load(path, weights_only=True)
    for name, patience in (("hookloop", 3), ("other", 5)):
        assert saved[name]["callbacks"]["early_stopping"]["settings"]["patience"] == patience


def test_a_changed_setting_is_refused() -> None:
    """Before the first batch, with both."""
    first = Case(["early_stopping:patience=3"])
    first.save_at(Events.EPOCH_COMPLETED)
    first.run(1)
    with pytest.raises(StateError, match="saved with patience=3; now it has patience=4"):
        Case(["early_stopping:patience=4"]).load().run(2)


def test_added_and_removed_callbacks_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """They are no reason to refuse."""
    first = Case(DECIDE[:1])
    first.save_at(Events.EPOCH_COMPLETED)
    first.run(1)
    Case(DECIDE[1:2]).load().run(2)

    said = capsys.readouterr().out
    assert "added: reduce_lr_on_plateau; removed: early_stopping" in said


def test_a_state_of_another_place_than_the_trainers_is_refused() -> None:
    """Whoever loads the callbacks but not the trainer, or another one, is told."""
    first = Case(DECIDE)
    first.save_at(Events.EPOCH_COMPLETED)
    first.run(2)
    again = Case(DECIDE)
    del again.state["trainer"]
    again.load()
    with pytest.raises(StateError, match="of 8 iterations, the trainer goes on after 0"):
        again.run()


def test_a_trainer_that_goes_on_without_the_callbacks_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They begin afresh, in the epoch that the trainer is at."""
    first = Case(DECIDE)
    first.save_at(Events.EPOCH_COMPLETED)
    first.run(2)
    again = Case(DECIDE)
    del again.state["hookloop"]
    again.load().run(4)

    assert again.attached.history.epoch == [2, 3]
    assert "without a state of the callbacks: they begin afresh" in capsys.readouterr().out


def test_an_epoch_that_cannot_be_validated_again_is_told_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Saved before its end, and the user's own handler runs the evaluator."""
    first = Case([])
    first.save_at(Events.ITERATION_COMPLETED(every=4))
    first.break_off(6)
    again = Case([], run_validation=None).load().run(2)

    assert again.attached.history.epoch == [0, 1]
    assert "Epoch 1 was saved before it had ended" in capsys.readouterr().out
