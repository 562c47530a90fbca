"""The callbacks of Keras's own documents, taken from the page that shows them."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "keras.md"
SECTION = PAGE.read_text().partition("## Keras's own examples\n")[2].partition("\n## ")[0]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall(SECTION) if found == kind]


def block_of(name: str, kind: str = "python") -> str:
    (found,) = [text for text in blocks(kind) if f"class {name}(" in text]
    return found


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The names that the page's blocks define, run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "page"}
    for text in blocks("python"):
        exec(text, names)
    return names


def fit(page, callbacks, **options):
    data = (page["x"], page["y"])
    options = {"batch_size": 16, "verbose": 0, **options}
    return page["trainer"].fit(data, callbacks=callbacks, **options)


@pytest.mark.parametrize("name", ["LossHistory", "OldLossHistory"])
def test_loss_history_collects_the_loss_of_every_batch(page, name):
    """With logs={} and with no argument at all: one float a batch, averaging to the epoch's."""
    callback = page[name]()
    history = fit(page, callback, epochs=2)
    assert [type(loss) for loss in callback.losses] == [float] * 4
    assert history.history["loss"] == pytest.approx(
        [sum(callback.losses[:2]) / 2, sum(callback.losses[2:]) / 2]
    )


def test_my_callback_sets_a_global_when_training_is_over(page):
    """The module's own global, as the document has it."""
    page["training_finished"] = False
    fit(page, page["MyCallback"]())
    assert page["training_finished"] is True


@pytest.mark.parametrize(
    ("name", "batches", "epochs"), [("StopAtBatch", 2, [0]), ("StopAtLoss", 4, [0])]
)
def test_stop_training_on_the_model_ends_the_run(page, name, batches, epochs):
    """After a batch or after an epoch; the epoch is rounded off either way."""
    losses = page["LossHistory"]()
    history = fit(page, [losses, page[name]()], batch_size=8, epochs=10)
    assert (len(losses.losses), history.epoch, history.outcome) == (batches, epochs, "stopped")


def test_the_interrupting_callback_interrupts(page):
    """The exception arrives as it was raised, and four epochs are in the history."""
    with pytest.raises(RuntimeError, match="Interrupting") as raised:
        fit(page, page["InterruptingCallback"](), epochs=10)
    assert raised.value.args == ("Interrupting!",)
    assert page["trainer"].history.epoch == [0, 1, 2, 3]


def test_the_activation_logger_writes_the_activations_of_each_epoch(page, tmp_path):
    """One .npz an epoch with what every layer gives for the first validation sample."""
    import numpy as np
    import torch

    for path in tmp_path.glob("*.npz"):
        path.unlink()
    validation = (page["x"][5:], page["y"][5:])
    fit(page, page["ActivationLogger"](), epochs=2, validation_data=validation)
    names = sorted(path.name for path in tmp_path.glob("*.npz"))
    assert names == ["activations_at_epoch_0.npz", "activations_at_epoch_1.npz"]
    with np.load(tmp_path / names[1]) as saved, torch.no_grad():
        expected = page["x"][5:6]
        for layer, name in zip(page["model"], saved, strict=True):
            expected = layer(expected)
            assert saved[name] == pytest.approx(expected.numpy())


def test_the_activation_logger_asks_for_validation_data(page):
    """validation_data is None where none was passed."""
    with pytest.raises(RuntimeError, match=r"Requires validation_data\."):
        fit(page, page["ActivationLogger"]())


@pytest.mark.parametrize(
    "schedule", [lambda epoch: 0.5**epoch, lambda epoch, lr: 0.5**epoch], ids=["old", "new"]
)
def test_the_hand_written_scheduler_sets_and_reports_the_rate(page, schedule):
    """Schedules of one argument and of two; the rate is in the history."""
    history = fit(page, page["LearningRateScheduler"](schedule), epochs=3)
    assert history.history["lr"] == [1.0, 0.5, 0.25]
    assert page["trainer"].optimizer.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        (
            "ActivationLogger",
            [
                "outputs = [layer.output for layer in model.layers]",
                "self.activations_model = Model(model.input, outputs)",
                "activations = self.activations_model.predict(validation_sample)",
            ],
        ),
        (
            "LearningRateScheduler",
            [
                "lr = float(backend.get_value(self.model.optimizer.lr))",
                "if not isinstance(lr, (ops.Tensor, float, np.float32, np.float64)):",
                "backend.set_value(self.model.optimizer.lr, lr)",
                "logs['lr'] = backend.get_value(self.model.optimizer.lr)",
            ],
        ),
    ],
)
def test_only_the_lines_of_the_keras_api_differ(name, changed):
    """What stands side by side on the page is the same but for these lines."""
    keras, ours = (block_of(name, kind).splitlines() for kind in ("py", "python"))
    delta = list(difflib.ndiff(keras, ours))
    assert [line[2:].strip() for line in delta if line.startswith("- ")] == changed
    assert sum(line.startswith("+ ") for line in delta) == len(changed)
