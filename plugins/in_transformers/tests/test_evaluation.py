"""The evaluation of an epoch belongs to that epoch; other evaluations belong to whoever asked."""

from __future__ import annotations

import copy
from typing import Any

import agreement
import pytest
import torch
from hookloop_in_transformers import HookloopCallback
from torch import nn
from transformers import Trainer, TrainerCallback

from hookloop import Callback

EPOCH = ["on_epoch_begin", "on_test_begin", "on_test_end", "on_epoch_end", "on_epoch_checkpoint"]


def order(notes: Any) -> list[str]:
    return [call[0] for call in notes.named(*EPOCH)]


def val_loss(model: nn.Module, split: str = "validation") -> float:
    x, y = agreement.arrays(split)
    with torch.no_grad():
        return nn.functional.mse_loss(model(x)["logits"], y).item()


def test_an_epoch_ends_after_its_evaluation(make: Any) -> None:
    """The Trainer evaluates after its own on_epoch_end: hookloop's is held back until then."""
    notes = make.Notes()

    make.trainer(notes, num_train_epochs=2, eval_strategy="epoch").train()

    assert order(notes) == 2 * EPOCH


def test_without_evaluation_an_epoch_ends_at_once(make: Any) -> None:
    """Before the next one begins, and without any val_ in its logs."""
    notes = make.Notes()

    make.trainer(notes, num_train_epochs=2).train()

    assert order(notes) == 2 * ["on_epoch_begin", "on_epoch_end", "on_epoch_checkpoint"]
    assert [sorted(logs) for logs in notes.logs("on_epoch_end")] == [["loss"], ["loss"]]


def test_the_logs_have_the_results_of_that_evaluation_and_nothing_of_its_speed(make: Any) -> None:
    """val_loss and val_<metric>, as the Trainer's eval_loss and eval_<metric>."""
    notes, seen = make.Notes(), []

    def metrics(prediction: Any) -> dict[str, float]:
        return {"error": float(abs(prediction.predictions - prediction.label_ids).mean())}

    trainer = make.trainer(
        notes, num_train_epochs=1, eval_strategy="epoch", about={"compute_metrics": metrics}
    )
    trainer.train()

    [logs] = notes.logs("on_epoch_end")
    [row] = [row for row in trainer.state.log_history if "eval_loss" in row]
    seen = {"val_loss": row["eval_loss"], "val_error": row["eval_error"]}
    assert {key: value for key, value in logs.items() if key != "loss"} == seen
    assert notes.logs("on_test_end") == [{"loss": row["eval_loss"], "error": row["eval_error"]}]
    assert logs["val_loss"] == pytest.approx(val_loss(trainer.model))


def test_by_steps_an_epoch_has_what_was_evaluated_in_it_and_nothing_else(make: Any) -> None:
    """Epochs of 10 steps, evaluated every 15: the first has nothing, the second not a stale one."""
    notes = make.Notes()

    trainer = make.trainer(notes, num_train_epochs=3, eval_strategy="steps", eval_steps=15)
    trainer.train()

    rows = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    found = [logs.get("val_loss") for logs in notes.logs("on_epoch_end")]
    assert found == [None, *rows]  # after steps 15 and 30


def test_several_evaluations_in_an_epoch_count_with_the_last(make: Any) -> None:
    """Each has its test hooks."""
    notes = make.Notes()

    trainer = make.trainer(notes, num_train_epochs=1, eval_strategy="steps", eval_steps=5)
    trainer.train()

    rows = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert [logs["loss"] for logs in notes.logs("on_test_end")] == rows
    assert len(rows) == 2
    assert notes.logs("on_epoch_end")[0]["val_loss"] == rows[-1]


def test_several_sets_are_one_evaluation(make: Any) -> None:
    """With a dict of sets: one begin and end, batches that count on, keys with the set's name."""
    notes = make.Notes()
    sets = {"near": make.data("validation"), "far": make.data()[:16]}

    trainer = make.trainer(notes, tests=sets, num_train_epochs=1, eval_strategy="epoch")
    trainer.train()

    assert order(notes) == EPOCH
    assert [call[1] for call in notes.named("on_test_batch_end")] == [0, 1, 2, 3]
    [logs] = notes.logs("on_epoch_end")
    assert sorted(logs) == ["loss", "val_far_loss", "val_near_loss"]
    assert logs["val_near_loss"] == pytest.approx(val_loss(trainer.model))


def test_batches_of_an_evaluation_have_their_own_loss_and_size(make: Any) -> None:
    """40 samples in batches of 16."""
    notes = make.Notes()

    trainer = make.trainer(notes, num_train_epochs=1, eval_strategy="epoch")
    trainer.train()

    sizes, losses = zip(
        *[(logs["size"], logs["loss"]) for logs in notes.logs("on_test_batch_end")], strict=True
    )
    assert sizes == (16, 16, 8)
    mean = sum(size * loss for size, loss in zip(sizes, losses, strict=True)) / 40
    assert mean == pytest.approx(notes.logs("on_epoch_end")[0]["val_loss"])


class Asking(TrainerCallback):
    """A recipe of many: evaluates on the training set, too, with a prefix of its own."""

    trainer: Any = None

    def on_epoch_end(self, args: Any, state: Any, control: Any, **about: Any) -> Any:
        kept = copy.copy(control)  # evaluate() takes back that the Trainer has to
        self.trainer.evaluate(self.trainer.train_dataset, metric_key_prefix="train")
        self.trainer.predict(self.trainer.train_dataset)
        return kept


@pytest.mark.parametrize("strategy", ["no", "epoch"])
def test_an_evaluation_of_other_data_is_no_validation(make: Any, strategy: str) -> None:
    """It fires no hooks, ends no epoch and leaves val_loss alone."""
    notes, asking = make.Notes(), Asking()

    trainer = make.trainer(notes, others=[asking], num_train_epochs=2, eval_strategy=strategy)
    asking.trainer = trainer
    trainer.train()

    logs = notes.logs("on_epoch_end")
    keys = ["loss"] if strategy == "no" else ["loss", "val_loss"]
    assert [sorted(one) for one in logs] == [keys, keys]
    assert len(notes.named("on_train_batch_begin")) == 20
    assert notes.named("on_predict_begin", "on_predict_batch_end") == []
    if strategy == "epoch":
        assert order(notes) == 2 * EPOCH
        assert logs[-1]["val_loss"] == pytest.approx(val_loss(trainer.model))


class Looking(TrainerCallback):
    """Tries the model out in the middle of an epoch."""

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **about: Any) -> None:
        model.eval()
        model(*agreement.arrays("validation"))
        model.train()


def test_a_model_that_is_tried_out_is_not_evaluated(make: Any) -> None:
    """Only the Trainer's own evaluation is one; what a batch found stays what it was."""
    alone, beside = make.Notes(), make.Notes()

    make.trainer(alone, num_train_epochs=1).train()
    make.trainer(beside, num_train_epochs=1, others=[Looking()]).train()

    assert beside.calls == alone.calls


def test_an_evaluation_before_the_first_epoch_is_hidden(make: Any) -> None:
    """eval_on_start looks whether evaluation works; no epoch has that result."""
    notes = make.Notes()

    make.trainer(notes, num_train_epochs=1, eval_on_start=True, eval_strategy="no").train()

    assert notes.named("on_test_begin", "on_test_end") == []
    assert "val_loss" not in notes.logs("on_epoch_end")[0]


class Rewarding(Trainer):
    """Overrides evaluate and adds a result of its own, as trainers for a task do."""

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        metrics = super().evaluate(*args, **kwargs)
        self.callback_handler.on_evaluate(self.args, self.state, self.control, {"eval_reward": 7.0})
        return metrics


def test_a_trainer_that_overrides_evaluate_keeps_its_own(make: Any) -> None:
    """Its method is called, and what it tells its callbacks is in the logs."""
    notes = make.Notes()

    make.trainer(notes, kind=Rewarding, num_train_epochs=1, eval_strategy="epoch").train()

    assert notes.logs("on_epoch_end")[0]["val_reward"] == 7.0


def test_the_best_model_is_loaded_before_the_end(make: Any) -> None:
    """load_best_model_at_end: what callbacks do at the end, they do to those weights."""
    losses, epochs = [], make.Notes()
    looking = make.Doing("on_train_end", lambda loop: losses.append(val_loss(loop.model)))
    trainer = make.trainer(
        [looking, epochs, "early_stopping:patience=2"],
        num_train_epochs=10,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
    )
    trainer.train()

    found = [logs["val_loss"] for logs in epochs.logs("on_epoch_end")]
    assert len(found) < 10
    assert losses == pytest.approx([min(found)])
    assert found[-1] > min(found)


# -- evaluating and predicting alone ---------------------------------------------------------------


def test_evaluate_alone_fires_the_hooks_of_an_evaluation(make: Any) -> None:
    """Without a training around it, and with no val_ before the names."""
    notes = make.Notes()
    trainer = make.trainer(notes)

    metrics = trainer.evaluate()

    assert notes.names() == [
        "on_test_begin",
        *3 * ["on_test_batch_begin", "on_test_batch_end"],
        "on_test_end",
    ]
    assert notes.logs("on_test_end") == [{"loss": metrics["eval_loss"]}]


def test_evaluate_alone_takes_any_data_and_prefix(make: Any) -> None:
    """The names are without it."""
    notes = make.Notes()
    trainer = make.trainer(notes)

    metrics = trainer.evaluate(make.data(), metric_key_prefix="test")

    assert notes.logs("on_test_end") == [{"loss": metrics["test_loss"]}]
    assert len(notes.named("on_test_batch_end")) == 10


def test_predict_alone_fires_the_hooks_of_a_prediction(make: Any) -> None:
    """With the outputs of each batch."""
    notes = make.Notes()
    trainer = make.trainer(notes)

    found = trainer.predict(make.data("validation"))

    assert notes.names() == [
        "on_predict_begin",
        *3 * ["on_predict_batch_begin", "on_predict_batch_end"],
        "on_predict_end",
    ]
    outputs = torch.cat([logs["outputs"] for logs in notes.logs("on_predict_batch_end")])
    assert outputs.numpy() == pytest.approx(found.predictions)


def test_evaluating_after_training_leaves_the_history_alone(make: Any) -> None:
    """It is that of the last training."""
    callback = HookloopCallback(["early_stopping:monitor=loss"])
    trainer = make.trainer(callback, num_train_epochs=2)
    trainer.train()
    history = callback.history

    trainer.evaluate()

    assert callback.history is history
    assert history.epoch == [0, 1]


class Failing(Callback):
    ends = 0

    def on_test_batch_end(self, batch: int) -> None:
        raise ArithmeticError("no")

    def on_test_end(self) -> None:
        self.ends += 1


def test_an_evaluation_that_fails_is_ended(make: Any) -> None:
    """Alone: its callbacks see its end, and the next evaluation begins afresh."""
    failing = Failing()
    trainer = make.trainer(failing)

    for times in (1, 2):
        with pytest.raises(ArithmeticError, match="no"):
            trainer.evaluate()
        assert failing.ends == times


def test_a_metric_of_validation_that_nothing_reports_has_a_fix_for_the_trainer(make: Any) -> None:
    """A run without validation is told how to get it, in words of this framework."""
    with pytest.warns(UserWarning, match="early_stopping: 'val_loss' was") as caught:
        make.trainer("early_stopping").train()

    assert str(caught[0].message).endswith(
        "\nfix: pass eval_dataset=, and eval_strategy='epoch', or monitor one of these"
    )
