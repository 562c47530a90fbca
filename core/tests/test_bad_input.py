"""What bad input gets: one sentence that says what is wrong, and what to do about it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from hookloop import Callback, HookloopError, Trainer

X = torch.linspace(-1, 1, 8).reshape(4, 2)
Y = X.sum(1, keepdim=True)


def trainer_of(**options) -> Trainer:
    options = {"loss": "mse", "optimizer": "sgd", "device": "cpu", **options}
    return Trainer(nn.Linear(2, 1), **options)


class Hooks(Callback):
    """Tells whether training began."""

    begun = False

    def on_train_begin(self):
        self.begun = True


class Endless(Dataset):
    def __getitem__(self, index):
        return X[0], Y[0]


CONSTRUCTOR = {
    "no model": (
        lambda: Trainer("model", loss="mse", optimizer="sgd"),
        "model= is str, not a torch.nn.Module.\nfix: pass an instance of a module",
    ),
    "class of model": (
        lambda: Trainer(nn.Linear, loss="mse", optimizer="sgd"),
        "model= is the class Linear, not a torch.nn.Module.\nfix: pass an instance of a module",
    ),
    "loss near miss": (
        lambda: trainer_of(loss="crossentropy"),
        "No loss is called 'crossentropy'. Did you mean 'cross_entropy'?\n"
        "fix: one of: cross_entropy, binary_cross_entropy, binary_cross_entropy_with_logits, bce, "
        "bce_with_logits, nll, mse, mean_squared_error, mae, mean_absolute_error, l1, smooth_l1, "
        "huber, kl_div, or pass a function",
    ),
    "loss of Keras": (
        lambda: trainer_of(loss="categorical_crossentropy"),
        "No loss is called 'categorical_crossentropy'; Keras's is 'cross_entropy' here, which "
        "takes logits (no softmax), and class indices or rows of probabilities.\n"
        'fix: write "cross_entropy", or pass a function',
    ),
    "sparse loss of Keras": (
        lambda: trainer_of(loss="sparse_categorical_crossentropy"),
        "No loss is called 'sparse_categorical_crossentropy'; Keras's is 'cross_entropy' here, "
        "which takes logits (no softmax) and class indices (int64).\n"
        'fix: write "cross_entropy", or pass a function',
    ),
    "binary loss of Keras": (
        lambda: trainer_of(loss="binary_crossentropy"),
        "No loss is called 'binary_crossentropy'; Keras's is 'binary_cross_entropy_with_logits' "
        "here, which takes logits (no sigmoid), and 0 and 1 as floats of the same shape.\n"
        'fix: write "binary_cross_entropy_with_logits", or pass a function',
    ),
    "metric of Keras": (
        lambda: trainer_of(metrics=["binary_accuracy"]),
        "No metric is called 'binary_accuracy'; Keras's is 'accuracy' here, which takes logits: "
        "those above 0 mean 1.\n"
        'fix: write "accuracy", or pass a function',
    ),
    "loss class": (
        lambda: trainer_of(loss=nn.MSELoss),
        "MSELoss is a class.\nfix: write MSELoss()",
    ),
    "loss number": (
        lambda: trainer_of(loss=3),
        'loss=3 is a int.\nfix: pass "cross_entropy", or a function (outputs, targets)',
    ),
    "metric near miss": (
        lambda: trainer_of(metrics=["acuracy"]),
        "No metric is called 'acuracy'. Did you mean 'accuracy'?\n"
        "fix: one of: accuracy, acc, top5_accuracy, top5_acc, mse, mean_squared_error, mae, "
        "mean_absolute_error, or pass a function",
    ),
    "metric number": (
        lambda: trainer_of(metrics={"m": 3}),
        "The metric 'm' is a int, which cannot be called.\n"
        "fix: pass a name, a function (outputs, targets), or an object with update and compute",
    ),
    "metrics clash": (
        lambda: trainer_of(metrics=["mae", "mae"]),
        "Two metrics, or a loss and a metric, are both called 'mae'.\n"
        'fix: name them: metrics={"one": ..., "other": ...}',
    ),
    "metric called loss": (
        lambda: trainer_of(metrics={"loss": "mae"}),
        "Two metrics, or a loss and a metric, are both called 'loss'.\n"
        'fix: name them: metrics={"one": ..., "other": ...}',
    ),
    "metric clashes with an output's loss": (
        lambda: trainer_of(loss={"a": "mse"}, metrics={"a": [_called("loss")]}),
        "Two metrics, or a loss and a metric, are both called 'a_loss'.\n"
        'fix: name them: metrics={"one": ..., "other": ...}',
    ),
    "metric of an unknown output": (
        lambda: trainer_of(loss={"a": "mse"}, metrics={"b": "mae"}),
        "metrics= names the output 'b', loss= only a.\nfix: give every output a loss",
    ),
    "optimizer near miss": (
        lambda: trainer_of(optimizer="adm"),
        "No optimizer is called 'adm'. Did you mean 'adam'?\n"
        "fix: one of: sgd, adam, adamw, nadam, radam, adamax, adagrad, adadelta, rmsprop, or pass "
        "an instance",
    ),
    "optimizer setting": (
        lambda: trainer_of(optimizer="adam:momentum=0.9"),
        "adam has no setting 'momentum'.\nfix: its settings are: lr, betas, eps, weight_decay, "
        "amsgrad, foreach, maximize, capturable, differentiable, fused, decoupled_weight_decay",
    ),
    "optimizer value": (
        lambda: trainer_of(optimizer="sgd:lr=-1"),
        "The optimizer 'sgd:lr=-1' refused its settings: Invalid learning rate: -1.\n"
        "fix: see torch.optim.SGD",
    ),
    "optimizer number": (
        lambda: trainer_of(optimizer=0.1),
        'optimizer=0.1 is a float.\nfix: pass "adam", an instance, or lambda parameters: ...',
    ),
    "optimizer function": (
        lambda: trainer_of(optimizer=list),
        "optimizer= made a list, which is no torch optimizer.\nfix: return a torch.optim.Optimizer",
    ),
    "lbfgs": (
        lambda: trainer_of(optimizer=torch.optim.LBFGS),
        "LBFGS calls the model itself, several times a step, which Trainer does not do.\n"
        "fix: use another optimizer, or your own loop",
    ),
    "precision": (
        lambda: trainer_of(precision="fp16"),
        "precision='fp16' is not offered (fp16 is not in this release).\n"
        "fix: one of: None, 'bf16', 'float32'",
    ),
    "on_interrupt": (
        lambda: trainer_of(on_interrupt="stop"),
        "on_interrupt='stop' is not offered.\nfix: one of: 'raise', 'return'",
    ),
    "accumulate": (
        lambda: trainer_of(accumulate=0),
        "accumulate=0 makes no sense.\nfix: pass a whole number, 1 or more",
    ),
    "seed": (
        lambda: trainer_of(seed=-1),
        "seed=-1 makes no sense.\nfix: pass a whole number, 0 or more",
    ),
}

FIT = {
    "x, y": (
        lambda t: t.fit(X, Y),
        "fit() takes the data as one argument, and was given 2.\nfix: fit((x, y), ...)",
    ),
    "evaluate x, y": (
        lambda t: t.evaluate(X, Y),
        "evaluate() takes the data as one argument, and was given 2.\nfix: evaluate((x, y), ...)",
    ),
    "epochs": (
        lambda t: t.fit((X, Y), epochs=-1),
        "epochs=-1 makes no sense.\nfix: pass a whole number, 0 or more",
    ),
    "no epochs": (
        lambda t: t.fit((X, Y), epochs=None),
        "epochs=None makes no sense.\nfix: pass a whole number, 0 or more",
    ),
    "half an epoch": (
        lambda t: t.fit((X, Y), epochs=1.5),
        "epochs=1.5 makes no sense.\nfix: pass a whole number, 0 or more",
    ),
    "initial_epoch": (
        lambda t: t.fit((X, Y), initial_epoch=-1),
        "initial_epoch=-1 makes no sense.\nfix: pass a whole number, 0 or more",
    ),
    "steps_per_epoch": (
        lambda t: t.fit((X, Y), steps_per_epoch=0),
        "steps_per_epoch=0 makes no sense.\nfix: pass a whole number, 1 or more",
    ),
    "batch_size": (
        lambda t: t.fit((X, Y), batch_size=-2),
        "batch_size=-2 makes no sense.\nfix: pass a whole number, 1 or more",
    ),
    "batch_size of a loader": (
        lambda t: t.fit([(X, Y)], batch_size=2),
        "batch_size=2 is given for data that come in batches already.\n"
        "fix: leave batch_size out, or set it in the DataLoader",
    ),
    "validation_freq": (
        lambda t: t.fit((X, Y), validation_data=(X, Y), validation_freq=0),
        "validation_freq=0 makes no sense.\nfix: pass a whole number, 1 or more",
    ),
    "validation_freq text": (
        lambda t: t.fit((X, Y), validation_data=(X, Y), validation_freq="2"),
        "validation_freq: the epoch='2' makes no sense.\nfix: pass a whole number, 1 or more",
    ),
    "verbose": (
        lambda t: t.fit((X, Y), verbose=3),
        "verbose=3 is not offered.\nfix: one of: 'auto', 0, 1, 2",
    ),
    "on_callback_error": (
        lambda t: t.fit((X, Y), on_callback_error="ignore"),
        "on_callback_error='ignore' is no policy.\nfix: 'raise', 'disable' or 'auto'",
    ),
    "split of all": (
        lambda t: t.fit((X, Y), validation_split=1.0),
        "validation_split=1.0 is no share of the data.\n"
        "fix: choose it from 0 up to, but not including, 1",
    ),
    "split below 0": (
        lambda t: t.fit((X, Y), validation_split=-0.1),
        "validation_split=-0.1 is no share of the data.\n"
        "fix: choose it from 0 up to, but not including, 1",
    ),
    "split text": (
        lambda t: t.fit((X, Y), validation_split="0.1"),
        "validation_split='0.1' is no share of the data.\n"
        "fix: choose it from 0 up to, but not including, 1",
    ),
    "split of nothing": (
        lambda t: t.fit((X, Y), validation_split=0.1),
        "validation_split=0.1 of 4 samples leaves one part empty.\n"
        "fix: choose another share, or pass validation_data=",
    ),
    "split of a loader": (
        lambda t: t.fit([(X, Y)], validation_split=0.5),
        "validation_split needs (x, y) as arrays or tensors, not a list.\n"
        "fix: pass validation_data= instead",
    ),
    "split and data": (
        lambda t: t.fit((X, Y), validation_split=0.5, validation_data=(X, Y)),
        "Both validation_data and validation_split are given.\nfix: leave one of them out",
    ),
    "nothing": (
        lambda t: t.fit(None),
        "The data are a NoneType.\nfix: pass (x, y) as arrays or tensors, a Dataset, a DataLoader, "
        "or an iterable of batches",
    ),
    "text": (
        lambda t: t.fit("train.csv"),
        "The data are a str.\nfix: pass (x, y) as arrays or tensors, a Dataset, a DataLoader, "
        "or an iterable of batches",
    ),
    "no targets": (
        lambda t: t.fit(X),
        "The data are a Tensor, not a pair.\nfix: pass (inputs, targets); several inputs are one "
        "tuple or mapping: ((a, b), targets)",
    ),
    "sample weights": (
        lambda t: t.fit((X, Y, Y)),
        "The data are a tuple of 3 arrays, not a pair.\nfix: pass (inputs, targets); several "
        "inputs are one tuple or mapping: ((a, b), targets)",
    ),
    "targets in a list": (
        lambda t: t.fit((X, [0.0, 1.0, 0.0, 1.0])),
        "The data are a pair of a Tensor and a list.\n"
        "fix: make arrays or tensors of both; batches come in a list",
    ),
    "lists of numbers": (
        lambda t: t.fit((X.tolist(), Y.tolist())),
        "The data are a pair of a list and a list.\n"
        "fix: make arrays or tensors of both; batches come in a list",
    ),
    "a list for the pair": (
        lambda t: t.fit([X, Y]),
        "The data are a list of two arrays, and a list is a list of batches.\n"
        "fix: pass the tuple (x, y)",
    ),
    "a list of NumPy arrays for the pair": (
        lambda t: t.fit([X.numpy(), Y.numpy()]),
        "The data are a list of two arrays, and a list is a list of batches.\n"
        "fix: pass the tuple (x, y)",
    ),
    "a list of lists of numbers": (
        lambda t: t.fit([X.tolist(), Y.tolist()]),
        "The data are a list of two lists, and a list is a list of batches.\n"
        "fix: pass the tuple (x, y) of arrays",
    ),
    "generator function": (
        lambda t: t.fit(batches),
        "The data are a function.\n"
        "fix: pass batches(); for several epochs, an object whose __iter__ is like it",
    ),
    "optimizer of another model": (
        lambda t: _elsewhere().fit((X, Y)),
        "The optimizer has none of the model's parameters: it would not be trained.\n"
        "fix: make it from model.parameters() of the model that is trained",
    ),
    "different lengths": (
        lambda t: t.fit((X, Y[:3])),
        "The arrays have different lengths: [3, 4].\nfix: give every array one row a sample",
    ),
    "text array": (
        lambda t: t.fit((X, np.array(["a", "b", "c", "d"]))),
        "An array holds <U1, which no tensor can.\nfix: convert it to numbers first",
    ),
    "empty arrays": (
        lambda t: t.fit((X[:0], Y[:0])),
        "The arrays hold no sample.\nfix: pass at least one",
    ),
    "empty dataset": (
        lambda t: t.fit(TensorDataset(X[:0], Y[:0], Y[:0])),
        "The dataset holds no sample.\nfix: pass one with at least one",
    ),
    "empty list": (
        lambda t: t.fit([]),
        "The data hold no batch.\nfix: pass data with at least one batch (drop_last drops a last "
        "one that is not full)",
    ),
    "empty loader": (
        lambda t: t.fit(DataLoader(TensorDataset(X, Y), 8, drop_last=True)),
        "The data hold no batch.\nfix: pass data with at least one batch (drop_last drops a last "
        "one that is not full)",
    ),
    "empty validation": (
        lambda t: t.fit((X, Y), validation_data=[]),
        "The data hold no batch.\nfix: pass data with at least one batch (drop_last drops a last "
        "one that is not full)",
    ),
    "dataset without length": (
        lambda t: t.fit(Endless()),
        "The dataset Endless has no length.\nfix: give it __len__, or derive it from "
        "IterableDataset",
    ),
    "iterator for two epochs": (
        lambda t: t.fit(iter([(X, Y)]), epochs=2),
        "data= is an iterator, which can be read only once, for several epochs.\nfix: pass what "
        "can be read again: a list, a DataLoader, an object with __iter__; or steps_per_epoch=",
    ),
    "iterator for two validations": (
        lambda t: t.fit((X, Y), epochs=2, validation_data=iter([(X, Y)])),
        "validation_data= is an iterator, which can be read only once, for several epochs.\n"
        "fix: pass what can be read again: a list, a DataLoader, an object with __iter__",
    ),
}

# What shows only with the first batch: the run has begun then, but no step is made.
FIRST_BATCH = {
    "empty iterator": (
        lambda t, c: t.fit(iter([]), callbacks=c, verbose=0),
        "The training data yield no batch.\n"
        "fix: pass data with at least one batch; a generator can be read only once",
    ),
    "batch of three": (
        lambda t, c: t.fit([(X, Y, Y)], callbacks=c, verbose=0),
        "A batch is 3 parts, not a pair of inputs and targets.\n"
        "fix: yield (inputs, targets), each of which may be a tuple or mapping of tensors",
    ),
    "batch of a tensor": (
        lambda t, c: t.fit([X], callbacks=c, verbose=0),
        "A batch is a Tensor, not a pair of inputs and targets.\n"
        "fix: yield (inputs, targets), each of which may be a tuple or mapping of tensors",
    ),
    "dataset of inputs": (
        lambda t, c: t.fit(TensorDataset(X), callbacks=c, verbose=0),
        "A batch is 1 parts, not a pair of inputs and targets.\n"
        "fix: yield (inputs, targets), each of which may be a tuple or mapping of tensors",
    ),
}

LOSSES = {
    "vector": (
        lambda outputs, targets: (outputs - targets).square(),
        "The loss has shape (4, 1), not that of a single number.\n"
        "fix: reduce it: .mean() over the samples",
    ),
    "number": (
        lambda outputs, targets: (outputs - targets).square().mean().item(),
        "The loss is a float, not a tensor.\n"
        "fix: return a tensor from the loss, computed from the outputs",
    ),
    "detached": (
        lambda outputs, targets: (outputs.detach() - targets).square().mean(),
        "The loss has no gradient: it does not depend on any parameter of the model.\n"
        "fix: compute it from the outputs without .detach() or .item(); leave a parameter "
        "trainable",
    ),
    "of outputs that are no mapping": (
        {"a": "mse"},
        "loss= names the output 'a', but the outputs are a Tensor.\n"
        "fix: give the outputs as a mapping with that key",
    ),
}


def batches():
    yield X, Y


def _elsewhere() -> Trainer:
    return trainer_of(optimizer=torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1))


def _called(name):
    def metric(outputs, targets):
        return outputs.mean()

    metric.__name__ = name
    return metric


@pytest.mark.parametrize("case", CONSTRUCTOR)
def test_the_constructor_refuses(case):
    """Whatever can be known to be wrong without data, by its text."""
    act, text = CONSTRUCTOR[case]
    with pytest.raises(HookloopError) as refused:
        act()
    assert str(refused.value) == text


@pytest.mark.parametrize("case", FIT)
def test_fit_refuses_before_it_begins(case):
    """No hook runs and no weight changes; the text says what to do."""
    act, text = FIT[case]
    trainer = trainer_of()
    before = copy.deepcopy(trainer.model.state_dict())
    with pytest.raises(HookloopError) as refused:
        act(trainer)
    assert str(refused.value) == text
    assert trainer.history is None
    assert torch.equal(trainer.model.weight, before["weight"])


@pytest.mark.parametrize("case", FIRST_BATCH)
def test_a_first_batch_that_is_none_is_refused_before_a_step(case):
    """The run ends in order, with the weights that it began with."""
    act, text = FIRST_BATCH[case]
    trainer, hooks = trainer_of(), Hooks()
    before = copy.deepcopy(trainer.model.state_dict())
    with pytest.raises(HookloopError) as refused:
        act(trainer, [hooks])
    assert str(refused.value) == text
    assert hooks.begun
    assert trainer.history.outcome == "failed"
    assert torch.equal(trainer.model.weight, before["weight"])


@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_that_is_none_is_refused_before_a_step(case):
    """Not a scalar, not a tensor, without a gradient: found with the first batch."""
    loss, text = LOSSES[case]
    trainer = trainer_of(loss=loss)
    before = copy.deepcopy(trainer.model.state_dict())
    with pytest.raises(HookloopError) as refused:
        trainer.fit((X, Y), verbose=0)
    assert str(refused.value) == text
    assert torch.equal(trainer.model.weight, before["weight"])


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_a_metric_that_is_no_single_number_is_refused_before_a_step(method):
    """It would silently be missing from every mean."""
    trainer = trainer_of(metrics={"error": lambda outputs, targets: (outputs - targets).abs()})
    before = copy.deepcopy(trainer.model.state_dict())
    with pytest.raises(HookloopError) as refused:
        getattr(trainer, method)((X, Y), verbose=0)
    assert str(refused.value) == (
        "The metric 'error' has shape (4, 1), not that of a single number.\n"
        "fix: reduce it: .mean() over the samples"
    )
    assert torch.equal(trainer.model.weight, before["weight"])


ANSWERS = {
    "numbers": (
        nn.Linear(2, 1),
        Y,
        "The metric 'accuracy' is given targets that are neither classes, nor one-hot rows, nor "
        "0 and 1 (float32 (4, 1)).",
    ),
    "several numbers": (
        nn.Linear(2, 3),
        X.repeat(1, 2)[:, :3],
        "The metric 'accuracy' is given targets that are neither classes, nor one-hot rows, nor "
        "0 and 1 (float32 (4, 3)).",
    ),
    "numbers of other shape": (
        nn.Sequential(nn.Linear(2, 2), nn.Unflatten(1, (2, 1))),
        Y,
        "The metric 'accuracy' is given targets that are neither classes, nor one-hot rows, nor "
        "0 and 1 (float32 (4, 1)).",
    ),
}


def _error(outputs, targets):
    return outputs.square().mean()


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize("case", ANSWERS)
def test_accuracy_of_numbers_is_refused_before_a_step(case, method):
    """It would be a number between 0 and 1 that means nothing."""
    model, targets, text = ANSWERS[case]
    trainer = Trainer(model, loss=_error, optimizer="sgd", metrics=["accuracy"], device="cpu")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(HookloopError) as refused:
        getattr(trainer, method)((X, targets), verbose=0)
    fix = 'fix: to predict numbers use "mae" or "mse"; for classes pass whole numbers'
    assert str(refused.value) == f"{text}\n{fix}"
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        pytest.param(3, torch.tensor([0.0, 1.0, 2.0, 1.0]), id="classes as floats"),
        pytest.param(3, torch.eye(3)[[0, 1, 2, 1]], id="one-hot"),
        pytest.param(3, torch.full((4, 3), 1 / 3), id="smoothed"),
        pytest.param(1, torch.tensor([[0.0], [1.0], [1.0], [0.0]]), id="0 and 1"),
        pytest.param(1, torch.tensor([[7], [8], [9], [9]]), id="whole numbers"),
    ],
)
def test_accuracy_of_answers_is_not_refused(outputs, targets):
    """Of every kind that the metric understands, as floats too."""
    trainer = Trainer(
        nn.Linear(2, outputs), loss=_error, optimizer="sgd", metrics=["accuracy"], device="cpu"
    )
    assert "accuracy" in trainer.fit((X, targets), verbose=0).history


def test_evaluate_refuses_a_loss_that_is_no_single_number():
    """It would be missing from the result."""
    with pytest.raises(HookloopError, match=r"The loss has shape \(4, 1\)"):
        trainer_of(loss=nn.MSELoss(reduction="none")).evaluate((X, Y), verbose=0)


@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_evaluation_of_no_data_is_refused(method):
    """There is no mean of nothing."""
    with pytest.raises(HookloopError) as refused:
        getattr(trainer_of(), method)(iter([]), verbose=0)
    assert str(refused.value) == (
        "The data yield no batch.\n"
        "fix: pass data with at least one batch; a generator can be read only once"
    )


def test_an_optimizer_over_other_parameters_is_warned_of():
    """It may be meant (a loss with parameters), so it is no error."""
    model, other = nn.Linear(2, 1), nn.Linear(2, 1)
    optimizer = torch.optim.SGD([*model.parameters(), *other.parameters()], lr=0.1)
    trainer = Trainer(model, loss="mse", optimizer=optimizer, device="cpu")
    with pytest.warns(UserWarning, match="parameters that are not the model's") as told:
        trainer.fit((X, Y), verbose=0)
    assert [str(one.message) for one in told] == [
        "The optimizer has parameters that are not the model's: they change only if the loss "
        "depends on them.\nfix: make it from model.parameters() of the model that is trained"
    ]
    assert told[0].filename == __file__
    trainer.evaluate((X, Y), verbose=0)


def test_several_processes_are_refused(monkeypatch):
    """This release trains in one; WORLD_SIZE says otherwise."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(HookloopError) as refused:
        trainer_of()
    assert str(refused.value) == (
        "Trainer runs in one process; WORLD_SIZE says that there are several.\n"
        "fix: start one process, or use your own distributed loop"
    )


def test_a_device_that_is_not_there_is_refused():
    """With what torch says about it."""
    with pytest.raises(HookloopError, match="device='nonsense' is not to be had here: ") as refused:
        trainer_of(device="nonsense")
    assert str(refused.value).endswith('\nfix: device="auto", or one that this torch has')


@pytest.mark.parametrize("epochs", [np.int64(1), True], ids=["numpy", "bool"])
def test_whole_numbers_may_be_numpys_but_not_truth_values(epochs):
    """True is no number of epochs; np.int64 comes out of every computation."""
    if epochs is True:
        with pytest.raises(HookloopError, match="epochs=True makes no sense"):
            trainer_of().fit((X, Y), epochs=epochs, verbose=0)
    else:
        assert trainer_of().fit((X, Y), epochs=epochs, verbose=0).epoch == [0]


def test_what_a_callback_cannot_save_is_named_when_the_run_starts():
    """Not hours later, at the first checkpoint; and nothing is trained before."""

    class Holds(Callback):
        def on_train_begin(self):
            self.values = [np.float64(1.0)]

        def state_dict(self):
            return {"values": self.values}

        def load_state_dict(self, state):
            pass

    trainer = trainer_of()
    before = trainer.model.weight.clone()
    with pytest.raises(HookloopError) as refused:
        trainer.fit((X, Y), callbacks=Holds(), verbose=0)
    assert str(refused.value) == (
        "The state of callback 'holds' holds a float64 at holds['values'][0].\n"
        "fix: keep numbers, text, None, lists, dicts and tensors in it"
    )
    assert torch.equal(trainer.model.weight, before)
