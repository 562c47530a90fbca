"""Callbacks' state is in the Trainer's checkpoints, and comes back from them, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop_in_transformers import HookloopCallback
from transformers import TrainerCallback

from hookloop import Callback
from hookloop.errors import StateError

FLAG = "restore_callback_states_from_checkpoint"


def chosen(folder: Path, *more: Any) -> HookloopCallback:
    """Callbacks that decide by what they remember."""
    return HookloopCallback(
        [
            "early_stopping:patience=3",
            "reduce_lr_on_plateau:factor=0.5,patience=2",
            {"model_checkpoint": {"filepath": folder / "best.weights.pt", "save_best_only": True}},
            *more,
        ]
    )


class Interrupt(TrainerCallback):
    """Presses Ctrl-C at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def result(trainer: Any, callback: HookloopCallback, folder: Path) -> dict[str, Any]:
    best = torch.load(folder / "best.weights.pt", weights_only=True)
    return {
        "history": callback.history.history,
        "epoch": callback.history.epoch,
        "reason": callback.history.stop_reason,
        "outcome": callback.history.outcome,
        "step": callback.bridge.run.loop.step,
        "weights": [value.tolist() for value in trainer.model.state_dict().values()],
        "best": [value.tolist() for value in best.values()],
    }


CASES = {
    "in an epoch": {"save_strategy": "steps", "save_steps": 7, "eval_strategy": "epoch"},
    "at its end": {"save_strategy": "epoch", "eval_strategy": "epoch"},
    "before its end": {"save_strategy": "steps", "save_steps": 10, "eval_strategy": "epoch"},
    "evaluated by steps": {
        "save_strategy": "steps",
        "save_steps": 8,
        "eval_strategy": "steps",
        "eval_steps": 7,
    },
    "accumulated": {
        "save_strategy": "steps",
        "save_steps": 4,
        "eval_strategy": "epoch",
        "gradient_accumulation_steps": 3,
        "lr_scheduler_type": "linear",
    },
    "best at the end": {
        "save_strategy": "epoch",
        "eval_strategy": "epoch",
        "load_best_model_at_end": True,
    },
}


@pytest.mark.parametrize("flag", [False, True], ids=["flag off", "flag on"])
@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_a_run_that_was_interrupted_decides_as_one_that_was_not(
    make: Any, tmp_path: Path, settings: dict[str, Any], flag: bool
) -> None:
    """Rates, stop, best weights, history and the model in the end; whatever the flag says."""
    settings = {
        "num_train_epochs": 12,
        "train_sampling_strategy": "random",
        FLAG: flag,
        **settings,
    }
    results = []
    for name, interrupts in {"whole": [], "cut": [Interrupt(17)]}.items():
        folder = tmp_path / name
        make.folder = folder
        callback = chosen(folder)
        trainer = make.trainer(callback, others=interrupts, **settings)
        if interrupts:
            with pytest.raises(KeyboardInterrupt):
                trainer.train()
            callback = chosen(folder)
            trainer = make.trainer(callback, **settings)
        trainer.train(resume_from_checkpoint=bool(interrupts))
        results.append(result(trainer, callback, folder))

    assert results[1] == results[0]
    assert results[0]["outcome"] == "stopped"


class Remembering(Callback):
    """Has every kind of value in its state."""

    def __init__(self) -> None:
        self.values: Any = None

    def on_epoch_end(self, epoch: int) -> None:
        self.values = {
            "tensor": torch.arange(6).reshape(2, 3) / 7,
            "half": torch.full((2,), 1 / 3, dtype=torch.bfloat16),
            "whole": torch.tensor(2**40),
            "worst": [float("inf"), float("-inf")],
            "pair": (epoch, "ü"),
            3: {"nothing": None},
        }

    def state_dict(self) -> dict[Any, Any]:
        return {"values": self.values}

    def load_state_dict(self, state: dict[Any, Any]) -> None:
        self.values = state["values"]


@pytest.mark.parametrize("flag", [False, True])
def test_tensors_and_all_plain_data_come_back(make: Any, flag: bool) -> None:
    """Though trainer_state.json holds JSON only."""
    settings = {"num_train_epochs": 1, "save_strategy": "epoch", FLAG: flag}
    saved, loaded = Remembering(), Remembering()
    make.trainer(saved, **settings).train()

    make.trainer(loaded, **settings).train(resume_from_checkpoint=True)

    for key in ("tensor", "half", "whole"):
        tensor = loaded.values.pop(key)
        assert tensor.equal(saved.values[key])
        assert tensor.dtype == saved.values.pop(key).dtype
    assert loaded.values == saved.values


def test_a_state_as_large_as_the_model_comes_back(make: Any) -> None:
    """swap_ema_weights: the averages go on, and are the model's weights in the end."""
    items = ["swap_ema_weights:decay=0.9"]
    settings = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 17}
    whole = make.trainer(items, **settings)
    whole.train()
    cut = make.trainer(items, **settings)

    cut.train(resume_from_checkpoint=str(make.folder / "checkpoints" / "checkpoint-17"))

    pairs = zip(cut.model.parameters(), whole.model.parameters(), strict=True)
    assert all(one.equal(other) for one, other in pairs)


# -- several bridges, and other callbacks ----------------------------------------------------------


class Counting(Callback):
    """Counts batches; begins at a number of its own."""

    def __init__(self, first: int) -> None:
        self.count = first

    def on_train_batch_end(self) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.count = state["count"]


@pytest.mark.parametrize("names", [(None, None), ("b", "a")])
@pytest.mark.parametrize("flag", [False, True])
def test_two_of_them_do_not_mix(make: Any, flag: bool, names: tuple[Any, Any]) -> None:
    """Each has its state back; the Trainer's file does not grow, and its callbacks stay."""
    settings = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 5, FLAG: flag}

    def trainer() -> tuple[Any, list[Counting]]:
        counting = [Counting(100), Counting(200)]
        bridges = [
            HookloopCallback(one, name=name) for one, name in zip(counting, names, strict=True)
        ]
        return make.trainer(bridges[0], others=[bridges[1]], **settings), counting

    trainer()[0].train()
    resumed, counting = trainer()
    resumed.train(resume_from_checkpoint=str(make.folder / "checkpoints" / "checkpoint-15"))

    assert [one.count for one in counting] == [120, 220]
    bridges = [c for c in resumed.callback_handler.callbacks if isinstance(c, HookloopCallback)]
    assert [type(one).__name__ for one in bridges] == (
        ["HookloopCallback", "HookloopCallback#2"]
        if names[0] is None
        else list(names)
        if not flag
        else ["a", "b"]
    )
    file = make.folder / "checkpoints" / "checkpoint-20" / "trainer_state.json"
    saved = json.loads(file.read_text())["stateful_callbacks"]
    keys = {"HookloopCallback", "HookloopCallback#2"} if names[0] is None else {"a", "b"}
    assert saved.keys() == {*keys, "TrainerControl"}
    assert all(isinstance(one, dict) for one in saved.values())


@pytest.mark.parametrize("flag", [False, True])
def test_the_object_that_was_passed_is_the_one_that_goes_on(make: Any, flag: bool) -> None:
    """With the flag the Trainer would make another one, and leave out yours."""
    settings = {"num_train_epochs": 2, "save_strategy": "epoch", FLAG: flag}
    make.trainer(HookloopCallback(), **settings).train()
    callback = HookloopCallback()
    trainer = make.trainer(callback, **settings)

    trainer.train(resume_from_checkpoint=str(make.folder / "checkpoints" / "checkpoint-10"))

    assert [c for c in trainer.callback_handler.callbacks if isinstance(c, HookloopCallback)] == [
        callback
    ]
    assert callback.history.epoch == [0, 1]


def test_it_can_be_added_to_a_training_that_had_none(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint does not know it: counters are the Trainer's, and saving works."""
    settings = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 15}
    trainer = make.trainer(HookloopCallback(), **settings)
    trainer.pop_callback(HookloopCallback)
    trainer.train()
    seen = []
    looking = make.Doing(
        "on_train_batch_begin", lambda loop: seen.append((loop.epoch, loop.batch, loop.step))
    )

    make.trainer(looking, **settings).train(
        resume_from_checkpoint=str(make.folder / "checkpoints" / "checkpoint-15")
    )

    assert seen == [(1, batch, 10 + batch) for batch in range(5, 10)]
    assert "no state of these callbacks: they begin afresh" in capsys.readouterr().out


def test_it_can_be_left_out_of_a_training_that_had_it(make: Any) -> None:
    """The Trainer goes on without."""
    settings = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 15}
    make.trainer(HookloopCallback("early_stopping:monitor=loss"), **settings).train()
    trainer = make.trainer(HookloopCallback(), **settings)
    trainer.pop_callback(HookloopCallback)

    trainer.train(resume_from_checkpoint=True)

    assert trainer.state.global_step == 20


# -- changes ---------------------------------------------------------------------------------------


def saved_once(make: Any, callbacks: Any, **settings: Any) -> None:
    settings = {"num_train_epochs": 1, "save_strategy": "epoch", **settings}
    make.trainer(callbacks, **settings).train()


def test_state_of_other_settings_is_refused(make: Any) -> None:
    """Naming both, before the first step."""
    saved_once(make, "early_stopping:monitor=loss,patience=3")
    trainer = make.trainer("early_stopping:monitor=loss,patience=4", num_train_epochs=2)

    with pytest.raises(StateError, match=r"patience=3; now it has patience=4.\nfix: "):
        trainer.train(resume_from_checkpoint=True)

    assert trainer.state.global_step == 10


def test_callbacks_that_were_added_or_removed_are_reported(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others have their state back."""
    saved_once(make, ["early_stopping:monitor=loss", Counting(0)])
    counting = Counting(0)
    items = [counting, "terminate_on_nan", "reduce_lr_on_plateau:monitor=loss"]

    make.trainer(items, num_train_epochs=2).train(resume_from_checkpoint=True)

    assert counting.count == 20
    shown = capsys.readouterr().out
    assert "added: reduce_lr_on_plateau; removed: early_stopping" in shown


def test_a_damaged_state_is_refused(make: Any) -> None:
    """Tensors carry a checksum."""
    saved_once(make, Remembering())
    file = make.folder / "checkpoints" / "checkpoint-10" / "trainer_state.json"
    state = json.loads(file.read_text())
    own = state["stateful_callbacks"]["HookloopCallback"]["hookloop"]
    middle = len(own["tensors"]) - 20
    own["tensors"] = own["tensors"][:middle] + "////" + own["tensors"][middle + 4 :]
    file.write_text(json.dumps(state))

    with pytest.raises(StateError, match=r"damaged.*\nfix: "):
        make.trainer(Remembering(), num_train_epochs=2).train(resume_from_checkpoint=True)


def test_a_run_that_was_stopped_is_not_trained_on(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Trainer forgets that its own early stopping had stopped it (#10290)."""
    settings = {"num_train_epochs": 9, "save_strategy": "epoch"}
    items = ["early_stopping:monitor=loss,baseline=-1,patience=2"]
    saved_once(make, items, **settings)
    notes = make.Notes()
    callback = HookloopCallback([*items, notes])

    trainer = make.trainer(callback, **settings)
    trainer.train(resume_from_checkpoint=True)

    assert notes.named("on_train_batch_begin", "on_epoch_begin", "on_epoch_end") == []
    assert callback.history.epoch == [0, 1]
    assert callback.history.outcome == "stopped"
    assert "has ended already (early_stopping: " in capsys.readouterr().out


def test_a_run_whose_epochs_are_done_says_so(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With more epochs it goes on."""
    settings = {"num_train_epochs": 2, "save_strategy": "epoch"}
    saved_once(make, [], **settings)
    for epochs, said in ((2, 1), (3, 0)):
        callback = HookloopCallback([])
        again = make.trainer(callback, **{**settings, "num_train_epochs": epochs})
        again.train(resume_from_checkpoint=str(make.folder / "checkpoints" / "checkpoint-20"))

        assert callback.history.epoch == list(range(epochs))
        text = "The resumed run has ended already (2 epochs are done, and epochs=2): "
        assert capsys.readouterr().out.count(text) == said


def test_whole_epochs_that_are_fed_again_are_counted_from_the_beginning(make: Any) -> None:
    """ignore_data_skip: the Trainer begins the epoch again that was cut."""
    settings = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 15}
    saved_once(make, Counting(0), **settings)
    seen = []
    looking = make.Doing("on_train_batch_begin", lambda loop: seen.append((loop.epoch, loop.batch)))

    make.trainer(looking, ignore_data_skip=True, **settings).train(
        resume_from_checkpoint=str(make.folder / "checkpoints" / "checkpoint-15")
    )

    assert seen == [(1, batch) for batch in range(5)]  # it stops at its max_steps


def test_training_again_is_no_resume(make: Any) -> None:
    """A second train() without a checkpoint begins afresh, though state was saved."""
    counting, seen = Counting(0), []
    looking = make.Doing("on_train_begin", lambda loop: seen.append(loop.resumed))
    trainer = make.trainer([counting, looking], num_train_epochs=1, save_strategy="epoch")

    trainer.train()
    trainer.train()

    assert seen == [False, False]
    assert counting.count == 20
