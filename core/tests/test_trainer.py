"""fit: its options, its defaults, what it gives to callbacks and what it puts back."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import BaseLogger, Callback, CallbackList, History, HookloopError, Trainer, hookimpl

X = torch.linspace(-1, 1, 24).reshape(12, 2)
Y = X @ torch.tensor([[1.0], [-2.0]])
CLASSES = (Y[:, 0] > 0).long()


def trainer_of(model=None, loss="mse", optimizer="sgd:lr=0.1", **options) -> Trainer:
    torch.manual_seed(1)
    model = model or nn.Linear(2, 1)
    return Trainer(model, loss=loss, optimizer=optimizer, device="cpu", seed=3, **options)


class Calls(Callback):
    """Notes which epochs were trained and validated, and what batches held."""

    def __init__(self):
        self.epochs, self.tests, self.sizes = [], [], []

    def on_epoch_begin(self, epoch):
        self.epochs.append(epoch)

    def on_train_batch_begin(self, logs):
        self.sizes.append(logs["size"])

    def on_test_begin(self):
        self.tests.append(self.loop.epoch)


@pytest.mark.parametrize(
    ("frequency", "validated"),
    [
        pytest.param(1, [0, 1, 2, 3, 4], id="every"),
        pytest.param(2, [1, 3], id="every-second"),
        pytest.param([1, 4], [0, 3], id="listed"),
        pytest.param(range(2, 4), [1, 2], id="range"),
        pytest.param(9, [], id="never"),
    ],
)
def test_validation_follows_the_epochs_that_validation_freq_names(frequency, validated):
    """A number is a distance, a collection names epochs from 1; history holds what there was."""
    calls = Calls()
    history = trainer_of().fit(
        (X, Y),
        epochs=5,
        validation_data=(X, Y),
        validation_freq=frequency,
        callbacks=calls,
        verbose=0,
    )
    assert calls.tests == validated
    assert len(history.history.get("val_loss", [])) == len(validated)
    assert len(history.history["loss"]) == 5


def test_validation_split_trains_on_the_head_and_validates_on_the_tail():
    """A quarter of 12 samples is 3, cut off before shuffling; callbacks see them."""
    calls = Calls()
    trainer_of().fit((X, Y), validation_split=0.25, batch_size=4, callbacks=calls, verbose=0)
    assert calls.sizes == [4, 4, 1]
    assert torch.equal(calls.validation_data[0], X[9:])
    assert calls.params["do_validation"] is True


def test_initial_epoch_is_the_index_of_the_first_epoch():
    """epochs is the end, not the number."""
    calls = Calls()
    history = trainer_of().fit((X, Y), epochs=5, initial_epoch=3, callbacks=calls, verbose=0)
    assert calls.epochs == history.epoch == [3, 4]


def test_epochs_0_returns_an_empty_history_and_touches_nothing():
    """No hook runs, no weight changes."""
    calls, trainer = Calls(), trainer_of()
    before = trainer.model.weight.clone()
    history = trainer.fit((X, Y), epochs=0, callbacks=calls, verbose=0)
    assert (history.history, history.epoch, calls.epochs) == ({}, [], [])
    assert trainer.history is history
    assert torch.equal(trainer.model.weight, before)


def test_steps_per_epoch_cuts_epochs_and_an_iterator_goes_on_in_the_next():
    """Of a loader each epoch sees the beginning; an iterator is read where it was left."""
    batches = [(X[i : i + 1], Y[i : i + 1]) for i in range(12)]
    seen = []

    class Sees(Callback):
        def on_train_batch_begin(self):
            seen.append(round(self.loop.inputs[0, 0].item(), 3))

    first = [round(x[0, 0].item(), 3) for x, _ in batches]
    trainer_of().fit(batches, epochs=2, steps_per_epoch=3, callbacks=Sees(), verbose=0)
    assert seen == first[:3] * 2
    seen.clear()
    trainer_of().fit(iter(batches), epochs=2, steps_per_epoch=3, callbacks=Sees(), verbose=0)
    assert seen == first[:6]


RAN_OUT = (
    "The data ran out after {} batches in epoch {}, which ends there.\n"
    "fix: pass more data, fewer epochs, or a smaller steps_per_epoch\n"
)


@pytest.mark.parametrize(
    ("count", "again", "epochs", "told"),
    [
        pytest.param(4, False, 2, RAN_OUT.format("1 of 3", 2), id="iterator"),
        pytest.param(2, True, 4, RAN_OUT.format("2 of 3", 1), id="list, said once"),
        pytest.param(3, True, 2, "", id="just enough"),
        pytest.param(6, False, 2, "", id="iterator with just enough"),
    ],
)
def test_data_that_run_out_inside_an_epoch_are_told_of_once(count, again, epochs, told, capsys):
    """The epoch ends there, in order."""
    batches = [(X[i : i + 1], Y[i : i + 1]) for i in range(count)]
    data = batches if again else iter(batches)
    history = trainer_of().fit(data, epochs=epochs, steps_per_epoch=3, verbose=0)
    assert len(history.epoch) == epochs
    assert capsys.readouterr().out == told


def test_data_that_a_callback_stops_did_not_run_out(capsys):
    """Nothing is said of them."""

    class Stops(Callback):
        def on_train_batch_end(self):
            self.loop.stop("enough")

    trainer_of().fit((X, Y), batch_size=1, steps_per_epoch=3, callbacks=Stops(), verbose=0)
    assert capsys.readouterr().out == ""


def test_an_epoch_for_which_nothing_is_left_is_an_error():
    """It says that earlier epochs have used the data up."""
    data = iter([(X[:1], Y[:1])] * 3)
    with pytest.raises(HookloopError) as refused:
        trainer_of().fit(data, epochs=2, steps_per_epoch=3, verbose=0)
    assert str(refused.value) == (
        "The data ran out: none are left for epoch 2.\n"
        "fix: pass more data, fewer epochs, or a smaller steps_per_epoch"
    )


@pytest.mark.parametrize(
    ("data", "options", "expected"),
    [
        pytest.param((X, Y), {"batch_size": 5}, (3, 5, 12), id="arrays"),
        pytest.param((X, Y), {"batch_size": 5, "steps_per_epoch": 2}, (2, 5, 12), id="cut"),
        pytest.param((X, Y), {"batch_size": 5, "steps_per_epoch": 9}, (3, 5, 12), id="short"),
        pytest.param([(X, Y)], {}, (1, None, None), id="list"),
        pytest.param(zip([X], [Y], strict=True), {}, (None, None, None), id="iterator"),
    ],
)
def test_params_tell_callbacks_about_the_run(data, options, expected):
    """steps, batch_size and samples where they can be known; None elsewhere."""
    calls = Calls()
    trainer_of(metrics=["mae"]).fit(data, callbacks=calls, verbose=0, **options)
    steps, batch_size, samples = expected
    assert calls.params == {
        "epochs": 1,
        "steps": steps,
        "batch_size": batch_size,
        "samples": samples,
        "verbose": 0,
        "metrics": ["loss", "mae"],
        "do_validation": False,
    }


def test_the_epoch_reports_means_weighted_by_the_size_of_batches():
    """12 samples in batches of 5, 5 and 2: the mean is over samples, not over batches."""
    losses = []

    class Notes(Callback):
        def on_train_batch_end(self, logs):
            losses.append((logs["size"], logs["loss"]))

    history = trainer_of().fit((X, Y), batch_size=5, callbacks=Notes(), verbose=0)
    expected = sum(size * loss for size, loss in losses) / 12
    assert [size for size, _ in losses] == [5, 5, 2]
    assert history.history["loss"] == [pytest.approx(expected, abs=1e-12)]


def test_what_callbacks_log_arrives_in_the_epoch_and_in_the_history():
    """In a batch it is averaged, in the epoch taken as it is, in validation it becomes val_*."""

    class Logs(Callback):
        def on_train_batch_end(self, batch):
            self.loop.log(number=batch)

        def on_test_end(self, logs):
            logs["f1"] = 0.5

        @hookimpl(tryfirst=True)
        def on_epoch_end(self, epoch, logs):
            logs["lr"] = self.loop.lr

        def on_epoch_begin(self):
            self.loop.log("begun", 1.0)

        def on_train_end(self, logs):
            self.last = dict(logs)

    callback = Logs()
    history = trainer_of().fit(
        (X, Y), batch_size=6, validation_data=(X, Y), callbacks=callback, verbose=0
    )
    values = {key: value for key, (value,) in history.history.items()}
    assert values.pop("loss") > 0
    assert values.pop("val_loss") > 0
    assert values == {"number": 0.5, "val_f1": 0.5, "lr": 0.1, "begun": 1.0}
    assert {"number", "lr", "val_f1", "loss"} <= callback.last.keys()


def test_a_metric_object_reports_its_own_result_at_the_end_of_the_epoch():
    """What cannot be averaged over batches (a maximum here) is right, in training and beside it."""
    metric = torchmetrics.MaxMetric()

    class Largest:
        name = "largest"

        def __init__(self):
            self.update = lambda outputs, targets: metric.update(targets)
            self.compute, self.reset = metric.compute, metric.reset

    class Count:
        def __init__(self):
            self.reset()

        def reset(self):
            self.samples = 0

        def update(self, outputs, targets):
            self.samples += len(targets)

        def compute(self):
            return self.samples

    class Looks(Callback):
        keys = None

        def on_train_batch_end(self, logs):
            self.keys = set(logs)

    looks = Looks()
    history = trainer_of(metrics={"largest": Largest(), "count": Count()}).fit(
        (X, Y),
        batch_size=5,
        epochs=2,
        validation_data=(X[:3], Y[:3]),
        callbacks=looks,
        verbose=0,
    )
    assert looks.keys == {"size", "loss"}
    assert history.history["count"] == [12, 12]
    assert history.history["val_count"] == [3, 3]
    assert history.history["largest"] == [pytest.approx(Y.max().item())] * 2


class Pair(nn.Module):
    """Takes its inputs by name and returns two outputs."""

    def __init__(self):
        super().__init__()
        self.shared, self.a, self.b = nn.Linear(2, 4), nn.Linear(4, 1), nn.Linear(4, 2)

    def forward(self, left, right):
        hidden = self.shared(left + right)
        return {"a": self.a(hidden), "b": self.b(hidden)}


@pytest.mark.parametrize("inputs", [{"left": X, "right": X}, (X, X)], ids=["keywords", "positions"])
def test_several_inputs_and_several_outputs(inputs):
    """A mapping of inputs is keywords, a tuple positions; each output has its loss and metrics."""
    trainer = trainer_of(
        Pair(),
        loss={"a": "mse", "b": "cross_entropy"},
        metrics={"b": ["accuracy"]},
    )
    history = trainer.fit((inputs, {"a": Y, "b": CLASSES}), epochs=2, verbose=0).history
    assert list(history) == ["a_loss", "b_loss", "loss", "b_accuracy"]
    for a, b, total in zip(history["a_loss"], history["b_loss"], history["loss"], strict=True):
        assert total == pytest.approx(a + b, abs=1e-6)
    found = trainer.predict((inputs, {"a": Y, "b": CLASSES}), verbose=0)
    assert {key: tuple(value.shape) for key, value in found.items()} == {"a": (12, 1), "b": (12, 2)}


def test_arrays_of_numpy_float64_train_a_float32_model():
    """np.random gives float64; as in Keras that is no reason to fail."""
    history = trainer_of().fit((X.numpy().astype("float64"), Y.double().numpy()), verbose=0)
    assert history.history["loss"][0] > 0


def test_a_second_fit_has_counters_and_history_of_its_own():
    """Epochs and steps count from 0 again, the first history stays whole, the optimizer goes on."""
    trainer = trainer_of(optimizer="adam")
    steps = []

    class Steps(Callback):
        def on_train_end(self):
            steps.append((self.loop.epoch, self.loop.step))

    first = trainer.fit((X, Y), epochs=2, batch_size=4, callbacks=Steps(), verbose=0)
    second = trainer.fit((X, Y), epochs=3, batch_size=4, callbacks=Steps(), verbose=0)
    assert steps == [(1, 6), (2, 9)]
    assert (first.epoch, len(first.history["loss"])) == ([0, 1], 2)
    assert (second.epoch, len(second.history["loss"])) == ([0, 1, 2], 3)
    assert trainer.history is second
    state = trainer.optimizer.state[trainer.model.weight]
    assert state["step"].item() == 6 + 9


def test_a_history_instance_that_is_used_again_begins_anew():
    """epoch and history never disagree in length."""
    history, trainer = History(), trainer_of()
    for epochs in (3, 2):
        assert trainer.fit((X, Y), epochs=epochs, callbacks=[history], verbose=0) is history
        assert len(history.epoch) == len(history.history["loss"]) == epochs


def test_the_default_callbacks_stand_around_the_users():
    """base_logger first, then the user's, history last."""
    names = []

    class Looks(Callback):
        def on_train_begin(self):
            names.extend(self.loop.callbacks)

    trainer_of().fit((X, Y), callbacks=[Looks()], verbose=0)
    assert names == ["base_logger", "looks", "history"]


def test_a_users_own_instance_takes_the_defaults_place_and_keeps_its_position():
    """No second one is added."""
    names = []

    class Looks(Callback):
        def on_train_begin(self):
            names.extend(self.loop.callbacks)

    trainer_of().fit((X, Y), callbacks=[History(), Looks(), BaseLogger()], verbose=0)
    assert names == ["history", "looks", "base_logger"]


def test_a_callback_list_counts_as_its_callbacks():
    """What is driven by hand elsewhere can be handed to fit."""
    calls = Calls()
    trainer_of().fit((X, Y), callbacks=CallbackList([calls], model=None), verbose=0)
    assert calls.epochs == [0]


def test_the_seed_seeds_torch_numpy_and_python_when_fit_starts():
    """The same seed gives the same draws in callbacks, whatever was drawn before."""
    drawn = []

    class Draws(Callback):
        def on_train_begin(self):
            drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))

    trainer = trainer_of()
    trainer.fit((X, Y), callbacks=Draws(), verbose=0)
    torch.rand(5), np.random.rand(5), random.random()
    trainer.fit((X, Y), callbacks=Draws(), verbose=0)
    assert drawn[0] == drawn[1]


def test_without_a_seed_two_fits_see_their_data_in_different_orders():
    """The order follows torch's initial seed, and does not repeat."""
    orders = []

    class Sees(Callback):
        def on_train_batch_begin(self):
            orders.append(self.loop.inputs[:, 0].tolist())

    trainer = Trainer(nn.Linear(2, 1), loss="mse", optimizer="sgd", device="cpu")
    for _ in range(2):
        trainer.fit((X, Y), callbacks=Sees(), verbose=0)
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


def test_modes_and_requires_grad_are_as_they_were_afterwards():
    """A submodule that was frozen in eval mode is in eval mode again, however fit ends."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    model.train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    trainer = trainer_of(model)
    modes = []

    class Looks(Callback):
        def on_train_batch_end(self):
            modes.append([module.training for module in model])

        def on_test_batch_end(self):
            modes.append([module.training for module in model])

        def on_epoch_end(self):
            modes.append([module.training for module in model])
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        trainer.fit((X, Y), validation_data=(X, Y), callbacks=Looks(), verbose=0)
    assert modes == [[True] * 3, [False] * 3, [True] * 3]
    assert [module.training for module in model] == [True, False, True]
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 5
    assert torch.equal(model[0].weight, before)


def test_the_model_stays_on_its_device():
    """Nothing is moved behind the user's back when training is over."""
    trainer = trainer_of()
    trainer.fit((X, Y), verbose=0)
    assert {p.device for p in trainer.model.parameters()} == {torch.device("cpu")}
    assert trainer.device == torch.device("cpu")


class Wrapper(nn.Module):
    def __init__(self, model):
        super().__init__()
        self._orig_mod = model

    def forward(self, x):
        return self._orig_mod(x)


def test_callbacks_get_the_users_module_out_of_its_wrapper():
    """torch.compile's wrapper is called; what callbacks see is what the user wrote."""
    inner, calls = nn.Linear(2, 1), Calls()
    trainer_of(Wrapper(inner)).fit((X, Y), callbacks=calls, verbose=0)
    assert calls.model is inner
    assert calls.loop.model is inner


def test_a_nested_evaluation_disturbs_nothing():
    """Weights, RNG, running metrics, modes and stop requests are those of a run without it."""

    class Evaluates(Callback):
        found = None

        def __init__(self, evaluates):
            self.evaluates = evaluates

        def on_train_batch_end(self, batch):
            if self.evaluates and batch == 1:
                loader = DataLoader(TensorDataset(X, Y), 3, shuffle=True)
                self.found = self.loop.evaluate(loader)
                assert self.loop.model.training
                self.loop.trainer.evaluate((X, Y), verbose=0)
                self.loop.trainer.predict(X, verbose=0)
            if batch == 2:
                self.loop.stop("asked")

        def on_test_begin(self):
            raise AssertionError("a nested evaluation fires no hooks of the running callbacks")

    def run(evaluates):
        model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        torch.manual_seed(2)
        trainer = trainer_of(model, metrics={"mean": torchmetrics.MeanSquaredError()})
        callback = Evaluates(evaluates)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(0.3)
        history = trainer.fit((X, Y), batch_size=3, epochs=2, callbacks=callback, verbose=0)
        weights = [p.clone() for p in model.parameters()]
        return weights, history.history, history.stop_reason, torch.rand(1), callback.found

    one, other = run(False), run(True)
    assert all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))
    assert one[1:3] == other[1:3]
    assert other[2] == "asked"
    assert torch.equal(one[3], other[3])
    assert other[4].keys() == {"loss", "mean"}


@pytest.mark.parametrize("thread", [True, False], ids=["thread", "main"])
def test_fit_works_in_any_thread(thread):
    """Signal handlers can be set in the main thread only; elsewhere fit does without."""
    import threading

    found = []

    def work():
        found.append(trainer_of().fit((X, Y), verbose=0).outcome)

    if thread:
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
    else:
        work()
    assert found == ["finished"]


def test_environment_variables_add_and_remove_callbacks_of_the_outermost_run(monkeypatch, capsys):
    """Said in one line, once: an evaluation inside of a callback is not meant."""
    monkeypatch.setenv("HOOKLOOP_CALLBACKS", "hookloop.history:BaseLogger")
    monkeypatch.setenv("HOOKLOOP_DISABLE", "calls")

    class Nested(Callback):
        def on_epoch_end(self):
            self.loop.trainer.evaluate((X, Y), verbose=0)

    calls = Calls()
    trainer_of().fit((X, Y), callbacks=[calls, Nested()], verbose=0)
    assert calls.epochs == []
    assert capsys.readouterr().out == (
        "HOOKLOOP_CALLBACKS adds hookloop.history:BaseLogger; HOOKLOOP_DISABLE removes calls\n"
    )
