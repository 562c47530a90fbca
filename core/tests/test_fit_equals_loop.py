"""fit computes what the same loop written by hand computes, bit for bit on the CPU."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from hookloop import Callback, Trainer, rng
from hookloop.data import epoch_order

SEED, EPOCHS = 11, 3


def net(dropout: float = 0.25) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3))


def arrays(samples: int = 42) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(samples, 4, generator=generator)
    return x, (x.sum(1) > 0).long() + (x[:, 0] > 0.5).long()


def batches_of(data, size: int) -> list:
    x, y = data
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def by_hand(model, optimizer, epochs, *, accumulate: int = 1) -> dict:
    """The plain loop: ``epochs`` is one list of batches an epoch."""
    rng.seed_all(SEED)
    model.train()
    for batches in epochs:
        for start in range(0, len(batches), accumulate):
            window = batches[start : start + accumulate]
            optimizer.zero_grad()
            for inputs, targets in window:
                loss = nn.functional.cross_entropy(model(inputs), targets)
                (loss / len(window)).backward()
            optimizer.step()
    return model.state_dict()


def fitted(data, *, accumulate: int = 1, optimizer="adam:lr=0.01", **options) -> dict:
    model = net()
    trainer = Trainer(
        model,
        loss="cross_entropy",
        optimizer=optimizer,
        seed=SEED,
        device="cpu",
        accumulate=accumulate,
    )
    trainer.fit(data, epochs=EPOCHS, verbose=0, **options)
    return model.state_dict()


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=0.01, fused=True)


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


class Pairs(Dataset):
    def __len__(self):
        return 42

    def __getitem__(self, index):
        x, y = arrays()
        return x[index], y[index]


class Stream(IterableDataset):
    """A data set without a length."""

    def __iter__(self):
        yield from zip(*arrays(), strict=True)


def in_order_drawn(accumulate):
    x, y = arrays()
    for epoch in range(EPOCHS):
        order = epoch_order(42, SEED, epoch)
        yield batches_of((x[order], y[order]), 8)


def as_the_loader_shuffles(accumulate):
    for epoch in range(EPOCHS):
        with rng.derived(SEED, epoch):
            yield list(DataLoader(TensorDataset(*arrays()), 8, shuffle=True))


def as_they_come(accumulate):
    return [batches_of(arrays(), 8)] * EPOCHS


def pieces_of_one_stream(accumulate):
    batches = batches_of(arrays(), 4)
    return [batches[0:3], batches[3:6], batches[6:9]]


FORMS = {
    "arrays": (arrays, {"batch_size": 8}, in_order_drawn),
    "numpy": (lambda: tuple(a.numpy() for a in arrays()), {"batch_size": 8}, in_order_drawn),
    "tensor_dataset": (lambda: TensorDataset(*arrays()), {"batch_size": 8}, in_order_drawn),
    "arrays_unshuffled": (arrays, {"batch_size": 8, "shuffle": False}, as_they_come),
    "dataset": (Pairs, {"batch_size": 8}, as_the_loader_shuffles),
    "loader": (
        lambda: DataLoader(TensorDataset(*arrays()), 8, shuffle=True),
        {},
        as_the_loader_shuffles,
    ),
    "list": (lambda: batches_of(arrays(), 8), {}, as_they_come),
    "iterable_dataset": (Stream, {"batch_size": 8}, as_they_come),
    "generator": (
        lambda: (batch for batch in batches_of(arrays(), 4)),
        {"steps_per_epoch": 3},
        pieces_of_one_stream,
    ),
}


# 42 samples in batches of 8 are 6 batches: with windows of 4 the last one is short.
@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("form", FORMS)
def test_fit_ends_with_the_weights_of_the_hand_written_loop(form, accumulate):
    """Any form of data, any window, dropout included: the same weights, bit for bit."""
    make, options, epochs = FORMS[form]
    if form == "generator" and accumulate == 4:
        accumulate = 2  # three batches: one window of two and one of one
    model = net()
    expected = by_hand(model, adam(model), list(epochs(accumulate)), accumulate=accumulate)
    assert same(fitted(make(), accumulate=accumulate, **options), expected)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sgd:lr=0.1,momentum=0.9", functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)),
        ("adamw", torch.optim.AdamW),
        ("rmsprop:lr=0.01", functools.partial(torch.optim.RMSprop, lr=0.01)),
    ],
    ids=["sgd", "adamw", "rmsprop"],
)
def test_an_optimizer_by_name_steps_as_the_one_of_torch(name, make):
    """The fused implementation where there is one, the plain one elsewhere."""
    model = net()
    fused = {} if name.startswith("rms") else {"fused": True}
    expected = by_hand(model, make(model.parameters(), **fused), as_they_come(1))
    assert same(fitted(batches_of(arrays(), 8), optimizer=name), expected)


class Busy(Callback):
    """Implements everything in the way of a step, and looks at all of it."""

    def on_train_batch_begin(self, batch, logs):
        dict(logs)

    def on_before_optimizer_step(self, optimizer, logs):
        dict(logs)

    def on_train_batch_end(self, batch, logs):
        self.loop.log(twice=2 * logs["loss"])

    def on_batch_checkpoint(self, logs):
        self.loop.state_dict()

    def on_epoch_end(self, logs):
        self.loop.evaluate(arrays())


def test_callbacks_validation_and_metrics_change_no_weight():
    """What only looks, saves and evaluates leaves the training as it is, dropout included."""
    options = {
        "callbacks": [Busy()],
        "validation_data": DataLoader(TensorDataset(*arrays()), 8, shuffle=True),
        "batch_size": 8,
    }
    assert same(fitted(arrays(), **options), fitted(arrays(), batch_size=8))


def test_without_a_seed_the_hand_written_loop_is_met_by_torchs_own():
    """seed=None touches no generator: dropout goes on where torch.manual_seed put it."""
    model = net()
    torch.manual_seed(SEED)
    trainer = Trainer(model, loss="cross_entropy", optimizer="adam:lr=0.01", device="cpu")
    trainer.fit(batches_of(arrays(), 8), epochs=EPOCHS, verbose=0)
    other = net()
    assert same(model.state_dict(), by_hand(other, adam(other), as_they_come(1)))


def test_bf16_is_the_hand_written_loop_under_autocast():
    """Forward and loss run under autocast, backward outside of it, as torch's documents say."""
    model, other = net(), net()
    batches = batches_of(arrays(), 8)
    optimizer = adam(other)
    rng.seed_all(SEED)
    for inputs, targets in batches:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(other(inputs), targets)
        loss.backward()
        optimizer.step()
    trainer = Trainer(
        model,
        loss="cross_entropy",
        optimizer="adam:lr=0.01",
        seed=SEED,
        device="cpu",
        precision="bf16",
    )
    trainer.fit(batches, verbose=0)
    assert same(model.state_dict(), other.state_dict())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = other.eval()(batches[0][0])
    assert expected.dtype == torch.bfloat16
    assert torch.equal(trainer.predict([batches[0]], verbose=0), expected)


def test_evaluate_gives_the_means_of_plain_pytorch():
    """Loss and accuracy over all samples, however unequal the batches."""
    model = net()
    x, y = arrays()
    trainer = Trainer(
        model, loss="cross_entropy", optimizer="sgd", metrics=["accuracy"], device="cpu"
    )
    found = trainer.evaluate((x, y), batch_size=9, verbose=0)
    with torch.no_grad():
        outputs = model.eval()(x)
    assert found == {
        "loss": pytest.approx(nn.functional.cross_entropy(outputs, y).item(), abs=1e-6),
        "accuracy": pytest.approx((outputs.argmax(1) == y).float().mean().item(), abs=1e-6),
    }


@pytest.mark.parametrize("data", ["x", "pair", "loader", "list of inputs"])
def test_predict_gives_what_the_model_returns_in_order(data):
    """All samples, in order, in eval mode, with or without targets in the data."""
    model = net()
    x, y = arrays()
    forms = {
        "x": x,
        "pair": (x, y),
        "loader": DataLoader(TensorDataset(x, y), 9),
        "list of inputs": [x[:20], x[20:]],
    }
    trainer = Trainer(model, loss="cross_entropy", optimizer="sgd", device="cpu")
    sizes = {"batch_size": 9} if data in ("x", "pair") else {}
    found = trainer.predict(forms[data], verbose=0, **sizes)
    pieces = [20, 22] if data == "list of inputs" else [9, 9, 9, 9, 6]
    with torch.no_grad():
        expected = torch.cat([model.eval()(part) for part in x.split(pieces)])
    assert torch.equal(found, expected)
    assert not found.requires_grad
