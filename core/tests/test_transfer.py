"""Batches on their way to the device: nobody waits, and nothing of the user's is handed out."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Trainer, transfer
from hookloop.data import epoch_order, make_source

X, Y = torch.arange(20.0).reshape(10, 2), torch.arange(10)
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def source_of(data, shuffle=True, device=CPU, batch_size: int | None = 4):
    return make_source(data, batch_size=batch_size, shuffle=shuffle, device=device)


# -- arrays ---------------------------------------------------------------


@pytest.mark.parametrize("skip", [0, 1, 2, 3])
@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
def test_batches_of_arrays_are_those_of_indexing_by_hand(shuffle: bool, skip: int) -> None:
    """Bit for bit and in order, from the first one on and from where a run goes on."""
    order = epoch_order(10, 7, 2) if shuffle else torch.arange(10)
    by_hand = [(X[order[a:b]], Y[order[a:b]], b - a) for a, b in ((0, 4), (4, 8), (8, 10))]
    given = list(source_of((X, Y), shuffle).batches(2, 7, skip))
    assert len(given) == len(by_hand[skip:])
    for (x, y, size), (expected_x, expected_y, expected_size) in zip(
        given, by_hand[skip:], strict=True
    ):
        assert x.equal(expected_x)
        assert y.equal(expected_y)
        assert size == expected_size


def test_batches_of_structures_of_arrays_are_those_of_indexing_by_hand() -> None:
    """Every leaf is picked by the same rows, and keeps its type."""
    data = ({"a": X, "b": (Y, X.to(torch.bfloat16))}, Y)
    rows = epoch_order(10, 0, 0)[4:8]
    inputs, targets, _ = list(source_of(data).batches(0, 0))[1]
    assert inputs["a"].equal(X[rows])
    assert inputs["b"][0].equal(Y[rows])
    assert inputs["b"][1].equal(X[rows].to(torch.bfloat16))
    assert targets.equal(Y[rows])


class Spoils(torch.nn.Module):
    """Changes its inputs, as an in-place activation at the front of a model does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x):
        return self.layer(x.mul_(0).sub_(1).relu_())


@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
@pytest.mark.parametrize("kind", ["tensors", "numpy"])
def test_a_model_that_changes_its_inputs_leaves_the_data_alone(kind: str, shuffle: bool) -> None:
    """A batch is a copy, as it is of a DataLoader: in fit, validation and prediction."""
    x = torch.ones(10, 2) if kind == "tensors" else np.ones((10, 2), "float32")
    trainer = Trainer(Spoils(), loss="mse", optimizer="sgd:lr=0.1", device="cpu")
    data = (x, x[:, :1])
    trainer.fit(data, batch_size=4, shuffle=shuffle, validation_data=data, verbose=0)
    trainer.predict(x, verbose=0)
    assert x.sum() == 20


# -- pretending a CUDA device ---------------------------------------------------------------


class Pretended:
    """Stands in for CUDA: notes what is done in which stream. Tensors stay on the CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.stream = "current"
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: "own")
        monkeypatch.setattr(torch.cuda, "stream", self.use)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self)
        monkeypatch.setattr(torch.Tensor, "record_stream", self.recorder())
        monkeypatch.setattr(transfer, "to_device", self.copy)
        monkeypatch.setattr(transfer, "_pinned", self.pinned)

    @contextmanager
    def use(self, stream: str):
        self.stream = stream
        yield
        self.stream = "current"

    def copy(self, batch, device):
        self.done.append(f"copy in {self.stream}")
        return batch

    def wait_stream(self, stream: str) -> None:
        self.done.append(f"current waits for {stream}")

    def recorder(self):
        def record(tensor, stream) -> None:
            assert stream is self
            self.done.append(f"{tensor.dtype} used in current")

        return record

    def pinned(self, shape, dtype):
        self.done.append(f"pinned {tuple(shape)}")
        return torch.empty(shape, dtype=dtype)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    return Pretended(monkeypatch)


COPIED = [
    "copy in own",
    "current waits for own",
    "torch.float32 used in current",
    "torch.int64 used in current",
]


def test_a_batch_of_arrays_goes_to_cuda_by_pinned_memory_and_a_stream_of_its_own(cuda) -> None:
    """Picked into pinned memory, copied beside the computing, which waits for it on the device."""
    batches = source_of((X, Y), device=CUDA).batches(0, 0)
    x, y, _ = next(batches)
    assert cuda.done == ["pinned (4, 2)", "pinned (4,)", *COPIED]
    rows = epoch_order(10, 0, 0)[:4]
    assert x.equal(X[rows])
    assert y.equal(Y[rows])


def test_a_batch_of_a_loader_goes_to_cuda_by_a_stream_of_its_own(cuda) -> None:
    """The loader pins or does not, as its owner wants."""
    loader = DataLoader(TensorDataset(X, Y), 4)
    batches = source_of(loader, device=CUDA, batch_size=None).batches(0, 0)
    next(batches)
    assert cuda.done == COPIED


def test_no_batch_of_a_loader_is_drawn_ahead_of_its_turn(cuda) -> None:
    """Or a state saved after this batch would go on after the next one."""
    drawn = []

    def generate():
        for index in range(3):
            drawn.append(index)
            yield X, Y

    for index, _ in enumerate(source_of(generate(), device=CUDA, batch_size=None).batches(0, 0)):
        assert drawn == list(range(index + 1))


def test_what_is_on_a_device_already_is_not_copied_in_another_stream(cuda) -> None:
    """There it might be read before it has been made."""
    on_a_device = torch.empty(2, device="meta")
    transfer.Transfer(CUDA)((on_a_device, Y))
    assert cuda.done == ["copy in current"]


def test_on_the_cpu_nothing_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no device to read it."""
    monkeypatch.setattr(transfer, "_pinned", None)
    list(source_of((X, Y)).batches(0, 0))
    assert not transfer.Transfer(CPU).pins
