"""What batch hooks find: the micro-batch's own loss, the data, the counters and the gradients."""

from __future__ import annotations

from typing import Any

import agreement
import pytest
import torch
from hookloop_in_transformers import HookloopCallback
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, Trainer


def losses_by_hand(accumulate: int = 1, epochs: int = 1) -> list[float]:
    """The loss of each micro-batch, in a loop of plain torch."""
    model, found = agreement.model(), []
    optimizer = torch.optim.SGD(model.parameters(), agreement.RATE)
    for _ in range(epochs):
        batches = list(agreement.batches("training"))
        for first in range(0, len(batches), accumulate):
            window = batches[first : first + accumulate]
            optimizer.zero_grad()
            for x, y in window:
                loss = nn.functional.mse_loss(model(x), y)
                (loss / len(window)).backward()
                found.append(loss.item())
            optimizer.step()
    return found


def losses(notes: Any) -> list[float]:
    return [logs["loss"] for logs in notes.logs("on_train_batch_end")]


@pytest.mark.parametrize("settings", [{}, {"logging_strategy": "steps", "logging_steps": 7}])
def test_the_loss_is_that_of_the_batch(make: Any, settings: dict[str, Any]) -> None:
    """Whatever the Trainer logs, and how often."""
    notes = make.Notes()

    make.trainer(notes, num_train_epochs=2, **settings).train()

    assert losses(notes) == losses_by_hand(epochs=2)


def test_with_accumulation_the_loss_is_that_of_the_micro_batch(make: Any) -> None:
    """Not a part of it; also in the last window of an epoch, which is shorter."""
    notes = make.Notes()

    make.trainer(notes, num_train_epochs=1, gradient_accumulation_steps=4).train()

    assert losses(notes) == pytest.approx(losses_by_hand(4), rel=1e-6)


def test_with_accumulation_batches_are_micro_batches_and_steps_are_steps(make: Any) -> None:
    """Ten micro-batches in windows of four are three steps, each with its hook and checkpoint."""
    notes, steps = make.Notes(), []
    counting = make.Doing("on_train_batch_end", lambda loop: steps.append(loop.step))

    trainer = make.trainer([notes, counting], num_train_epochs=1, gradient_accumulation_steps=4)
    trainer.train()

    assert [call[1] for call in notes.named("on_train_batch_begin")] == list(range(10))
    assert [call[1] for call in notes.named("on_batch_checkpoint")] == [3, 7, 9]
    assert len(notes.named("on_before_optimizer_step")) == 3
    assert steps == [0, 0, 0, 1, 1, 1, 1, 2, 2, 3]


class Config(PreTrainedConfig):
    model_type = "tagger"


class Tagger(PreTrainedModel):
    """Divides its loss by the number of labels of the whole optimizer step, as HF's models do."""

    config_class = Config
    main_input_name = "x"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        torch.manual_seed(3)
        self.head = nn.Linear(4, 3)
        self.post_init()

    def forward(self, x: Tensor, labels: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        logits = self.head(x)
        items = kwargs.get("num_items_in_batch")
        reduction = "mean" if items is None else "sum"
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), reduction=reduction
        )
        return {"loss": loss if items is None else loss / items, "logits": logits}


def tags() -> list[dict[str, Tensor]]:
    """Eight rows of six labels, of which the first has one that counts, the second two, ..."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(8, 6, 4, generator=generator)
    labels = torch.randint(0, 3, (8, 6), generator=generator)
    for row in range(8):
        labels[row, 1 + row % 6 :] = -100
    return [{"x": one, "labels": label} for one, label in zip(x, labels, strict=True)]


#: One optimizer step, of four micro-batches of one row.
WINDOW = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "max_steps": 1}


def test_a_loss_that_is_divided_over_the_window_is_made_the_micro_batchs_own(make: Any) -> None:
    """Where the model divides by num_items_in_batch, of unequal micro-batches."""
    rows, model, notes = tags(), Tagger(Config()), make.Notes()
    head = nn.Linear(4, 3)
    head.load_state_dict(model.head.state_dict())
    wanted = [nn.functional.cross_entropy(head(row["x"]), row["labels"]).item() for row in rows[:4]]

    make.trainer(
        notes,
        model=model,
        train=rows,
        **WINDOW,
    ).train()

    assert losses(notes) == pytest.approx(wanted, rel=1e-6)


class Twice(Trainer):
    """Computes the loss of each micro-batch in two calls."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        return super().training_step(model, inputs, num_items_in_batch)


@pytest.mark.parametrize("kind", [Trainer, Twice])
@pytest.mark.parametrize("who", ["the first bridge", "the second bridge"])
def test_a_stop_inside_a_window_leaves_the_loss_the_micro_batchs_own(
    make: Any, kind: type[Trainer], who: str
) -> None:
    """Though nothing more is fed then: for every bridge, and however often it is computed."""
    rows, model, notes = tags(), Tagger(Config()), [make.Notes(), make.Notes()]
    wanted = nn.functional.cross_entropy(model.head(rows[0]["x"]), rows[0]["labels"]).item()
    stopping = make.Doing("on_train_batch_begin", lambda loop: loop.stop("enough"))
    chosen = [[notes[0]], [notes[1]]]
    chosen[who == "the second bridge"].append(stopping)

    make.trainer(
        chosen[0],
        kind=kind,
        others=[HookloopCallback(chosen[1])],
        model=model,
        train=rows,
        **WINDOW,
    ).train()

    assert [losses(one) for one in notes] == [[pytest.approx(wanted, rel=1e-6)]] * 2


def test_a_loss_function_of_ones_own_is_what_is_reported(make: Any) -> None:
    """compute_loss_func: the loss is in no output of the model; divided over the window, too."""
    notes = make.Notes()

    def summed(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
        total = nn.functional.mse_loss(outputs["logits"], labels, reduction="sum")
        return total / num_items_in_batch

    trainer = make.trainer(
        notes,
        about={"compute_loss_func": summed},
        num_train_epochs=1,
        gradient_accumulation_steps=4,
        eval_strategy="epoch",
    )
    trainer.train()

    assert losses(notes) == pytest.approx(losses_by_hand(4), rel=1e-5)
    assert len(notes.logs("on_test_batch_end")) == 3
    assert notes.logs("on_epoch_end")[0]["val_loss"] > 0


class Doubled(Trainer):
    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return 2 * model(**inputs)["loss"]


def test_an_overridden_compute_loss_is_what_is_reported(make: Any) -> None:
    """Also one that gives no outputs."""
    notes = make.Notes()

    make.trainer(notes, kind=Doubled, max_steps=1).train()

    assert losses(notes) == [2 * losses_by_hand()[0]]


class Blind(Trainer):
    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        loss = model(**inputs)["loss"]
        loss.backward()
        return loss.detach()


def test_a_training_step_without_compute_loss_has_its_hooks(make: Any) -> None:
    """In their order, with no loss or size that would be somebody else's."""
    notes = make.Notes()
    of_a_batch = ["on_train_batch_begin", "on_before_optimizer_step", "on_train_batch_end"]

    make.trainer(notes, kind=Blind, max_steps=2).train()

    assert notes.named(*of_a_batch) == [
        ("on_train_batch_begin", 0, {}),
        ("on_before_optimizer_step", {}),
        ("on_train_batch_end", 0, {}),
        ("on_train_batch_begin", 1, {}),
        ("on_before_optimizer_step", {}),
        ("on_train_batch_end", 1, {}),
    ]


def test_a_method_that_replaces_the_trainers_is_followed(make: Any) -> None:
    """Set as an attribute after the trainer was made, as some do."""
    notes = make.Notes()
    trainer = make.trainer(notes, max_steps=1)
    trainer.compute_loss = lambda model, inputs, **about: 3 * model(**inputs)["loss"]

    trainer.train()

    assert losses(notes) == [pytest.approx(3 * losses_by_hand()[0])]


def test_callbacks_see_the_data_of_the_batch(make: Any) -> None:
    """Inputs as the model gets them, targets by label name, outputs, and the loss as a tensor."""
    seen = []
    looking = make.Doing(
        "on_train_batch_end",
        lambda loop: seen.append((loop.inputs, loop.targets, loop.outputs, loop.loss)),
    )
    make.trainer(looking, max_steps=1).train()
    x, y = next(iter(agreement.batches("training")))
    [(inputs, targets, outputs, loss)] = seen

    assert torch.equal(inputs["x"], x)
    assert torch.equal(targets, y)
    assert torch.equal(outputs["logits"], agreement.model()(x))
    assert loss.item() == losses_by_hand()[0]


@pytest.mark.parametrize("compiled", [False, True])
def test_outputs_are_those_of_evaluation_and_prediction_too(make: Any, compiled: bool) -> None:
    """Of a compiled model, too, which the Trainer calls in training only."""
    seen = []

    def look(loop: Any) -> None:
        seen.append((type(loop.model).__name__, *loop.outputs["logits"].shape))

    looking = [
        make.Doing(f"on_{kind}_batch_end", look, name=kind) for kind in ("train", "test", "predict")
    ]
    compiling = {"torch_compile": True, "torch_compile_backend": "eager"} if compiled else {}
    trainer = make.trainer(looking, max_steps=1, eval_strategy="epoch", **compiling)
    trainer.train()
    trainer.predict(make.data("validation"))

    wanted = [("Net", 16, 1), *2 * [("Net", 16, 1), ("Net", 16, 1), ("Net", 8, 1)]]
    assert seen == wanted


def test_the_size_of_a_batch_is_known_from_its_begin(make: Any) -> None:
    """Also that of the last one, which is smaller."""
    notes = make.Notes()

    make.trainer(notes, train=make.data()[:40], num_train_epochs=1).train()

    assert [logs["size"] for logs in notes.logs("on_train_batch_begin")] == [16, 16, 8]


def test_the_loss_of_an_epoch_is_the_mean_over_its_samples(make: Any) -> None:
    """Weighted by the size of the batches, which are 16, 16 and 8."""
    notes = make.Notes()

    make.trainer(notes, train=make.data()[:40], num_train_epochs=1).train()

    a, b, c = losses(notes)
    assert notes.logs("on_epoch_end")[0]["loss"] == pytest.approx((16 * a + 16 * b + 8 * c) / 40)


def test_gradients_are_complete_and_clipped_before_the_step(make: Any) -> None:
    """on_before_optimizer_step comes after the Trainer's own clipping."""
    norms = []

    def measure(loop: Any) -> None:
        gradients = [p.grad.flatten() for p in loop.model.parameters()]
        norms.append(torch.cat(gradients).norm().item())

    looking = make.Doing("on_before_optimizer_step", measure)
    make.trainer(looking, max_steps=2, max_grad_norm=0.01).train()

    assert norms == pytest.approx([0.01, 0.01], rel=1e-3)


def test_the_optimizer_is_torchs_own(make: Any) -> None:
    """Not accelerate's wrapper, on which no hook of torch can be registered."""
    seen = []
    make.trainer(
        make.Doing("on_train_begin", lambda loop: seen.append(loop.optimizer)), max_steps=1
    ).train()

    assert [type(one) for one in seen] == [torch.optim.SGD]


def test_the_run_is_described(make: Any) -> None:
    """loop.params says what is known of epochs, batches and samples."""
    seen = []
    looking = make.Doing("on_train_begin", lambda loop: seen.append(dict(loop.params)))

    make.trainer(looking, gradient_accumulation_steps=4, eval_strategy="epoch").train()

    assert seen == [
        {
            "epochs": 3,
            "steps": 10,
            "batch_size": 16,
            "samples": 160,
            "verbose": 0,
            "metrics": None,
            "do_validation": True,
        }
    ]


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self) -> Any:
        while True:
            for x, y in zip(*agreement.arrays("training"), strict=True):
                yield {"x": x, "labels": y}


def test_data_without_a_length_have_no_number_of_epochs(make: Any) -> None:
    """The Trainer stops by max_steps there; what is not known is None."""
    seen, notes = [], make.Notes()
    looking = make.Doing("on_train_begin", lambda loop: seen.append(loop.params))

    make.trainer([looking, notes], train=Endless(), max_steps=12).train()

    assert (seen[0]["epochs"], seen[0]["steps"], seen[0]["samples"]) == (None, None, None)
    assert len(notes.named("on_train_batch_end")) == 12
    assert len(notes.named("on_epoch_end")) == 1


def test_the_history_is_there(make: Any) -> None:
    """After training, and without any callback chosen."""
    callback = HookloopCallback()

    make.trainer(callback, num_train_epochs=2).train()

    assert callback.history.epoch == [0, 1]
    assert callback.history.outcome == "finished"
    first = losses_by_hand()
    assert callback.history.history["loss"][0] == pytest.approx(sum(first) / len(first))
