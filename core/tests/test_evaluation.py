"""evaluate and predict: one pass over the data that leaves no trace."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
from torch import nn

from hookloop import Callback, Trainer

X = torch.linspace(-1, 1, 10).reshape(5, 2)
Y = X.sum(1, keepdim=True)
Out = namedtuple("Out", "mean scale")


class Returns(nn.Module):
    """Returns what a function makes of its inputs."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.unused = nn.Linear(1, 1)

    def forward(self, x):
        return self.function(x)


def trainer_of(model=None, **options) -> Trainer:
    model = model or nn.Linear(2, 1)
    return Trainer(model, loss="mse", optimizer="sgd", device="cpu", **options)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x + 1, X + 1),
        (lambda x: {"a": x, "b": {"c": x[:, :1]}}, {"a": X, "b": {"c": X[:, :1]}}),
        (lambda x: (x, [x + 1]), (X, [X + 1])),
        (lambda x: Out(x, 2 * x), Out(X, 2 * X)),
    ],
    ids="tensor mapping tuple namedtuple".split(),
)
def test_predict_joins_batches_in_the_structure_that_the_model_returns(function, expected):
    """Tuples stay tuples, mappings mappings, and every tensor has all samples."""

    def same(one, other):
        if isinstance(one, torch.Tensor):
            return torch.equal(one, other)
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
        return type(one) is type(other) and all(map(same, one, other))

    found = trainer_of(Returns(function)).predict(X, batch_size=2, verbose=0)
    assert same(found, expected)


class Adds(nn.Module):
    """Takes two inputs, and a third if there is one."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(1, 1)

    def forward(self, one, other, third=0):
        return one + 10 * other + third


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ((X, Y), X + 10 * Y),
        ((X, Y, X), X + 10 * Y + X),
        (((X, Y), Y), X + 10 * Y),
        ([((X, Y), Y)], X + 10 * Y),
        ({"one": X, "other": Y}, X + 10 * Y),
    ],
    ids="two three fits-own loader mapping".split(),
)
def test_a_tuple_of_arrays_is_the_inputs_of_a_model_that_takes_so_many(data, expected):
    """Of what fit takes, the targets are still ignored."""
    assert torch.equal(trainer_of(Adds()).predict(data, batch_size=None, verbose=0), expected)


def test_a_pair_of_arrays_is_inputs_and_targets_where_the_model_takes_one():
    """So that the data of fit can be passed."""
    trainer = trainer_of()
    assert torch.equal(trainer.predict((X, Y), verbose=0), trainer.predict(X, verbose=0))


def test_outputs_that_cannot_be_joined_are_refused():
    """With what can."""
    with pytest.raises(
        ValueError, match=r"The model returns a str, which cannot be joined\.\nfix: "
    ):
        trainer_of(Returns(lambda x: "text")).predict(X, verbose=0)


class Hooks(Callback):
    def __init__(self):
        self.seen = []

    def on_test_batch_end(self, batch, logs):
        self.seen.append((batch, logs["size"], self.loop.outputs.shape[0]))
        logs["extra"] = float(batch)

    def on_test_end(self, logs):
        self.seen.append(sorted(logs))
        logs["f1"] = 0.25

    def on_predict_batch_end(self, batch, logs):
        self.seen.append((batch, logs["size"], tuple(logs["outputs"].shape)))


def test_callbacks_of_evaluate_see_its_batches_and_add_to_its_result():
    """Numbers of a batch are averaged by size, what comes at the end is taken as it is."""
    hooks = Hooks()
    found = trainer_of(metrics=["mae"]).evaluate((X, Y), batch_size=2, callbacks=hooks, verbose=0)
    assert hooks.seen == [(0, 2, 2), (1, 2, 2), (2, 1, 1), ["extra", "loss", "mae"]]
    assert found["extra"] == (0 * 2 + 1 * 2 + 2 * 1) / 5
    assert found["f1"] == 0.25


def test_callbacks_of_predict_see_the_outputs():
    """Each batch with its own."""
    hooks = Hooks()
    trainer_of().predict(X, batch_size=3, callbacks=hooks, verbose=0)
    assert hooks.seen == [(0, 3, (3, 1)), (1, 2, (2, 1))]


@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_modes_come_back_module_by_module_also_after_an_exception(method):
    """eval mode and no gradients inside; outside everything is as it was."""
    modes = []

    class Noting(nn.Module):
        def forward(self, x):
            modes.append((self.training, torch.is_grad_enabled()))
            raise ZeroDivisionError

    model = nn.Sequential(nn.Linear(2, 2), Noting(), nn.BatchNorm1d(2))
    model[2].eval()
    with pytest.raises(ZeroDivisionError):
        getattr(trainer_of(model), method)((X, Y), verbose=0)
    assert modes == [(False, False)]
    assert [module.training for module in model] == [True, True, False]


@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_no_generator_is_left_elsewhere(method):
    """What a model draws in eval mode is not missing afterwards."""
    trainer = trainer_of(Returns(lambda x: x[:, :1] + torch.rand(len(x), 1)))
    before = torch.get_rng_state()
    getattr(trainer, method)((X, Y), verbose=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluate_is_the_same_twice_and_takes_any_form_of_data():
    """Arrays, batches, loaders: one result."""
    from torch.utils.data import DataLoader, TensorDataset

    trainer = trainer_of(metrics=["mae"])
    forms = [(X, Y), [(X[:3], Y[:3]), (X[3:], Y[3:])], DataLoader(TensorDataset(X, Y), 2)]
    results = [trainer.evaluate(data, verbose=0) for data in forms for _ in range(2)]
    assert all(one == pytest.approx(results[0], abs=1e-6) for one in results)
