"""What callbacks see of each batch, epoch, evaluation and prediction in Keras."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from hookloop_in_keras import HookloopCallback

from hookloop import Callback

# Of Keras itself, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4)).astype("float32")
Y = X[:, :1] * 2 + RNG.normal(size=(20, 1)).astype("float32")


def made(optimizer: Any = None, **compiled: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer=optimizer or keras.optimizers.SGD(0.05), **{"loss": "mse", **compiled})
    return model


class Note(Callback):
    """Notes the hooks, and copies of their logs."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.steps: list[int] = []
        self.sizes: list[int] = []
        self.predicted: list[torch.Tensor] = []
        self.losses: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any) -> None:
        self.calls.append(("begin", batch, dict(logs)))
        self.losses.append(_by_hand(self.model, self.loop.inputs, self.loop.targets))

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        self.calls.append(("end", batch, dict(logs)))
        self.steps.append(self.loop.step)
        assert self.loop.outputs.shape == (logs["size"], 1)
        assert float(self.loop.loss) == logs["loss"]

    def on_batch_checkpoint(self, batch: int) -> None:
        self.calls.append(("checkpoint", batch))

    def on_test_begin(self) -> None:
        self.calls.append("test begin")

    def on_test_batch_end(self, batch: int, logs: Any) -> None:
        self.calls.append(("test", batch, dict(logs)))

    def on_test_end(self, logs: Any) -> None:
        self.calls.append(("test end", dict(logs)))

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        self.calls.append(("epoch", epoch, dict(logs)))

    def on_predict_begin(self) -> None:
        self.calls.append("predict begin")

    def on_predict_batch_end(self, batch: int, logs: Any) -> None:
        self.predicted.append(logs["outputs"])

    def on_predict_end(self) -> None:
        self.calls.append("predict end")

    def of(self, kind: str) -> list[Any]:
        return [call[-1] for call in self.calls if call[0] == kind]


def _by_hand(model: Any, x: Any, y: Any) -> float:
    with torch.no_grad():
        return float(((model(x) - torch.as_tensor(y)) ** 2).mean())


def test_batch_losses_are_of_the_batch_and_not_means_of_the_epoch() -> None:
    """Each is what the model loses on that batch alone, the smaller last one too."""
    model, note = made(), Note()
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[HookloopCallback([note])])
    assert [logs["size"] for logs in note.of("begin")] == [8, 8, 4, 8, 8, 4]
    assert [logs["loss"] for logs in note.of("end")] == pytest.approx(note.losses, rel=1e-6)


def test_metrics_of_a_batch_are_its_own_and_those_that_only_add_up_are_absent() -> None:
    """A mean (mae, accuracy) is given for the batch; AUC and RMSE appear in the epoch alone."""
    labels = (Y > 0).astype("float32")
    metrics = ["mae", keras.metrics.BinaryAccuracy(name="right"), keras.metrics.AUC(name="auc")]
    model = made(keras.optimizers.SGD(1e-12), metrics=[*metrics, "root_mean_squared_error"])
    note = Note()
    model.fit(
        X, labels, batch_size=8, shuffle=False, verbose=0, callbacks=[HookloopCallback([note])]
    )
    out = np.asarray(model.predict(X, verbose=0))
    for logs, rows in zip(note.of("end"), (slice(0, 8), slice(8, 16), slice(16, 20)), strict=True):
        assert sorted(logs) == ["loss", "mae", "right", "size"]
        assert logs["mae"] == pytest.approx(np.abs(out - labels)[rows].mean(), rel=1e-5)
        assert logs["right"] == ((out > 0.5) == labels)[rows].mean()
    (epoch,) = note.of("epoch")
    assert sorted(epoch) == ["auc", "loss", "mae", "right", "root_mean_squared_error"]


def test_epoch_logs_are_those_of_keras() -> None:
    """Loss, metrics and val_* are what Keras's own History has, to the last digit."""
    model, bridge = made(metrics=["mae"]), HookloopCallback()
    theirs = model.fit(X, Y, epochs=3, validation_split=0.25, verbose=0, callbacks=[bridge])
    assert bridge.history is not None
    assert bridge.history.history == theirs.history
    assert set(theirs.history) == {"loss", "mae", "val_loss", "val_mae"}


def test_values_are_absent_in_epochs_without_validation() -> None:
    """With validation_freq=2 no val_loss of an earlier epoch is shown again."""
    model, note = made(), Note()
    data = {"validation_data": (X, Y), "validation_freq": 2}
    model.fit(X, Y, epochs=4, verbose=0, callbacks=[HookloopCallback([note])], **data)
    assert ["val_loss" in logs for logs in note.of("epoch")] == [False, True, False, True]


def test_steps_are_of_the_optimizer_with_accumulation() -> None:
    """Two micro-batches make one step; no saver saves within a window, which epochs do not end."""
    model = made(keras.optimizers.SGD(0.05, gradient_accumulation_steps=2))
    note = Note()
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[HookloopCallback([note])])
    assert note.steps == [0, 1, 1, 2, 2, 3]
    assert [call[1] for call in note.calls if call[0] == "checkpoint"] == [1, 0, 2]


def test_a_second_fit_counts_afresh() -> None:
    """Steps and epochs begin at 0 again, though the optimizer goes on counting."""
    model, note = made(), Note()
    for _ in range(2):
        model.fit(X, Y, batch_size=10, verbose=0, callbacks=[HookloopCallback([note])])
    assert note.steps == [1, 2, 1, 2]
    assert int(model.optimizer.iterations.value) == 4


def test_epochs_are_counted_from_initial_epoch() -> None:
    """As Keras counts them."""
    model, bridge = made(), HookloopCallback()
    model.fit(X, Y, initial_epoch=3, epochs=5, verbose=0, callbacks=[bridge])
    assert bridge.history is not None
    assert bridge.history.epoch == [3, 4]


@pytest.mark.parametrize(
    "weights", [{"sample_weight": np.linspace(0, 1, 20)}, {"class_weight": {0: 1.0, 1: 3.0}}]
)
def test_weights_of_samples_count_in_the_loss_of_a_batch(weights: Any) -> None:
    """The losses of the batches, averaged by their sizes, are the loss that Keras reports."""
    labels = (Y > 0).astype("int32")
    model, note = made(keras.optimizers.SGD(0.01), loss="binary_crossentropy"), Note()
    model.fit(X, labels, batch_size=8, verbose=0, callbacks=[HookloopCallback([note])], **weights)
    logs, (epoch,) = note.of("end"), note.of("epoch")
    mean = sum(one["loss"] * one["size"] for one in logs) / 20
    assert mean == pytest.approx(epoch["loss"], rel=1e-6)


def test_evaluate_alone_runs_the_test_hooks() -> None:
    """Batch by batch, each with its own loss; the end has what Keras returns."""
    model, note = made(), Note()
    found = model.evaluate(
        X, Y, batch_size=16, verbose=0, return_dict=True, callbacks=[HookloopCallback([note])]
    )
    assert note.calls[0] == "test begin"
    assert [logs["size"] for logs in note.of("test")] == [16, 4]
    assert [logs["loss"] for logs in note.of("test")] == pytest.approx(
        [_by_hand(model, X[:16], Y[:16]), _by_hand(model, X[16:], Y[16:])], rel=1e-6
    )
    assert note.of("test end") == [found]
    assert "compute_loss" not in vars(model)


def test_predict_runs_the_predict_hooks() -> None:
    """With the outputs of each batch."""
    model, note = made(), Note()
    found = model.predict(X, batch_size=8, verbose=0, callbacks=[HookloopCallback([note])])
    assert note.calls == ["predict begin", "predict end"]
    assert torch.equal(torch.cat(note.predicted), torch.as_tensor(found))


def test_training_in_between_belongs_to_nobody() -> None:
    """A train_on_batch or evaluate of somebody else's, during fit, fires no hook."""

    class Meddler(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.model.test_on_batch(X, Y)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.train_on_batch(X[:2], Y[:2])
            self.model.evaluate(X, Y, verbose=0)

    model, note = made(), Note()
    callbacks = [HookloopCallback([note]), Meddler()]
    model.fit(X, Y, batch_size=10, epochs=2, verbose=0, callbacks=callbacks)
    assert [call[1] for call in note.calls if call[0] == "end"] == [0, 1, 0, 1]
    assert note.of("test") == []


class OwnStep(keras.Model):
    """Trains in its own way, and returns the loss of the batch as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.layer(x)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data[:2]
        self.zero_grad()
        loss = ((self(x) - torch.as_tensor(y)) ** 2).mean()
        loss.backward()
        weights = self.trainable_weights
        with torch.no_grad():
            self.optimizer.apply([v.value.grad for v in weights], weights)
        return {"loss": loss, "twice": 2 * loss}


class OwnTracker(OwnStep):
    """Keeps the mean of its loss itself, as Keras's guide does it."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[Any]:
        return [self.tracker]

    def train_step(self, data: Any) -> dict[str, Any]:
        self.tracker.update_state(super().train_step(data)["loss"])
        return {"loss": self.tracker.result()}


class Losses(Callback):
    def __init__(self) -> None:
        self.found: list[float] = []
        self.wanted: list[float] = []

    def on_train_batch_begin(self) -> None:
        self.wanted.append(_by_hand(self.model, self.loop.inputs, self.loop.targets))

    def on_train_batch_end(self, logs: Any) -> None:
        self.found.append(logs["loss"])


@pytest.mark.parametrize("kind", [OwnStep, OwnTracker])
def test_a_model_with_a_train_step_of_its_own_has_batch_losses(kind: Any) -> None:
    """Whether it returns the loss of the batch or a mean that it keeps."""
    model, losses = kind(), Losses()
    model.compile(optimizer=keras.optimizers.SGD(0.05))
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[HookloopCallback([losses])])
    assert losses.found == pytest.approx(losses.wanted, rel=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of its compiler
def test_a_compiled_step_changes_nothing_about_the_losses() -> None:
    """jit_compile=True: the hooks stand around the compiled function."""
    model, losses = made(jit_compile=True), Losses()
    model.fit(X, Y, batch_size=10, epochs=2, verbose=0, callbacks=[HookloopCallback([losses])])
    assert losses.found == pytest.approx(losses.wanted, rel=1e-5)


def test_keras_dispatches_its_own_callbacks_asynchronously_still() -> None:
    """It asks whether any callback overrides the end of a batch: the bridge does not."""
    theirs, ours = keras.callbacks.Callback, HookloopCallback
    for hook in ("on_batch_end", "on_train_batch_end", "on_test_batch_end", "on_predict_batch_end"):
        assert getattr(ours, hook) is getattr(theirs, hook)


def test_what_callbacks_add_to_an_epoch_stands_in_the_history_of_keras() -> None:
    """Numbers travel in logs, to Keras's own callbacks too."""

    class Adds(Callback):
        def on_epoch_end(self, logs: Any) -> None:
            logs["lr"] = self.loop.lr

    history = made().fit(X, Y, epochs=2, verbose=0, callbacks=[HookloopCallback([Adds()])])
    assert history.history["lr"] == [0.05, 0.05]


def test_params_tell_what_fit_was_given() -> None:
    """With the samples that a split leaves, and the names that logs will have."""

    class Params(Callback):
        def on_train_begin(self) -> None:
            found.update(self.params)

    found: dict[str, Any] = {}
    model = made(metrics=["mae"])
    model.fit(
        X, Y, epochs=2, validation_split=0.25, verbose=0, callbacks=[HookloopCallback([Params()])]
    )
    assert found == {
        "epochs": 2,
        "steps": 1,
        "batch_size": 32,
        "samples": 15,
        "verbose": 0,
        "metrics": ["loss", "mae"],
        "do_validation": True,
    }
