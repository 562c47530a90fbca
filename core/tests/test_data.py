"""Forms of data, and the batches that come of them."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from hookloop.data import epoch_order, make_source
from hookloop.structures import as_tensor, size_of, split, to_device

CPU = torch.device("cpu")
X, Y = torch.arange(20.0).reshape(10, 2), torch.arange(10)
PAIRS = [(X[i : i + 4], Y[i : i + 4]) for i in (0, 4, 8)]


def source_of(data, *, batch_size=None, shuffle=True, paired=True):
    return make_source(data, batch_size=batch_size, shuffle=shuffle, device=CPU, paired=paired)


def targets(source, epoch=0, seed=0, skip=0, resume=None) -> list[list[int]]:
    return [y.tolist() for _, y, _ in source.batches(epoch, seed, skip, resume)]


class Squares(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return X[index], Y[index]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


class Again:
    """A re-iterable that torch knows nothing of, shuffled by torch's own generator."""

    def __iter__(self):
        for index in torch.randperm(3).tolist():
            yield PAIRS[index]


class Backwards(torch.utils.data.Sampler):
    def __iter__(self):
        return iter(range(9, -1, -1))

    def __len__(self):
        return 10


@pytest.mark.parametrize(
    ("data", "batch_size", "expected"),
    [
        pytest.param((X, Y), None, (1, 10, 32), id="arrays"),
        pytest.param((X, Y), 4, (3, 10, 4), id="arrays-of-4"),
        pytest.param(TensorDataset(X, Y), 4, (3, 10, 4), id="tensor-dataset"),
        pytest.param(Squares(), 4, (3, 10, 4), id="dataset"),
        pytest.param(Stream(), 4, (None, None, 4), id="iterable-dataset"),
        pytest.param(DataLoader(Squares(), 4), None, (3, 10, 4), id="loader"),
        pytest.param(DataLoader(Squares(), 4, drop_last=True), None, (2, 10, 4), id="drop-last"),
        pytest.param(PAIRS, None, (3, None, None), id="list"),
        pytest.param(Again(), None, (None, None, None), id="iterable"),
        pytest.param(iter(PAIRS), None, (None, None, None), id="iterator"),
    ],
)
def test_steps_samples_and_batch_size_are_known_where_they_can_be(data, batch_size, expected):
    """What params tell callbacks: None where the data do not say."""
    source = source_of(data, batch_size=batch_size)
    assert (source.steps, source.samples, source.batch_size) == expected


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    """Drawing it touches no generator, and neighbours in seed or epoch share nothing."""
    before = torch.get_rng_state()
    order = epoch_order(10, 3, 1)
    assert torch.equal(order, epoch_order(10, 3, 1))
    assert sorted(order.tolist()) == list(range(10))
    assert not torch.equal(order, epoch_order(10, 4, 0))
    assert not torch.equal(order, epoch_order(10, 3, 2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "data", [(X, Y), Squares(), DataLoader(Squares(), 4, shuffle=True), Again()], ids=type
)
def test_every_epoch_has_its_order_again_under_the_same_seed(data):
    """The same seed and epoch give the same batches, another epoch others; no RNG is touched."""
    source = source_of(data, batch_size=4 if isinstance(data, tuple | Squares) else None)
    before = torch.get_rng_state()
    first, second = targets(source, epoch=0, seed=1), targets(source, epoch=1, seed=1)
    assert first != second
    assert targets(source, epoch=0, seed=1) == first
    assert torch.equal(torch.get_rng_state(), before)


def loaders():
    weights = [1.0] * 9 + [5.0]
    yield "array", lambda: ((X, Y), 2)
    yield "shuffled", lambda: (DataLoader(Squares(), 2, shuffle=True), None)
    yield "sequential", lambda: (DataLoader(Squares(), 2), None)
    yield "subset", lambda: (DataLoader(Squares(), 2, sampler=SubsetRandomSampler(range(8))), None)
    yield (
        "weighted",
        lambda: (DataLoader(Squares(), 2, sampler=WeightedRandomSampler(weights, 10)), None),
    )
    yield (
        "replacement",
        lambda: (DataLoader(Squares(), 2, sampler=RandomSampler(Squares(), True, 40)), None),
    )
    yield "custom_sampler", lambda: (DataLoader(Squares(), 2, sampler=Backwards()), None)
    yield "unbatched", lambda: (DataLoader(Squares(), None, shuffle=True), None)
    yield "stream", lambda: (DataLoader(Stream(), 2), None)
    yield "list", lambda: (PAIRS, None)
    yield "iterable", lambda: (Again(), None)


@pytest.mark.parametrize("make", [make for _, make in loaders()], ids=[n for n, _ in loaders()])
def test_going_on_inside_an_epoch_gives_the_batches_that_are_left(make):
    """Skipped batches are those that came first in that epoch, whatever the form."""
    from hookloop import rng

    data, size = make()
    resume = {**source_of(data, batch_size=size).state(), "random": rng.capture()}
    whole = targets(source_of(data, batch_size=size), epoch=2, seed=5)
    for skip in (1, 2, len(whole)):
        rest = targets(source_of(data, batch_size=size), 2, 5, skip, resume)
        assert rest == whole[skip:]


def test_a_loaders_own_generator_is_put_where_it_was_when_the_epoch_began():
    """Inside an epoch the order comes again; afterwards the generator is where it had been."""
    generator = torch.Generator().manual_seed(4)
    loader = DataLoader(Squares(), 2, shuffle=True, generator=generator)
    first = source_of(loader)
    whole = [targets(first), targets(first)]
    generator.manual_seed(4)
    again = source_of(loader)
    batches = again.batches(0, 0)
    next(batches)
    state = again.state()
    generator.manual_seed(99)
    resumed = source_of(loader)
    resumed.restore(state)
    assert [targets(resumed, 0, 0, 1, state), targets(resumed, 1)] == [whole[0][1:], whole[1]]


class Stateful:
    """A loader that knows how to go on, as those of torchdata do."""

    def __init__(self):
        self.place = self.asked = 0

    def __iter__(self):
        while self.place < 3:
            self.place += 1
            yield PAIRS[self.place - 1]
        self.place = 0

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]
        self.asked += 1


def test_a_loader_with_state_dict_is_asked_to_go_on_by_itself():
    """What can skip cheaply does: nothing is drawn and thrown away."""
    source = source_of(Stateful())
    batches = source.batches(0, 0)
    next(batches)
    state, loader = source.state(), Stateful()
    assert targets(source_of(loader), 0, 0, 1, state) == [[4, 5, 6, 7], [8, 9]]
    assert loader.asked == 1


def test_an_iterator_goes_on_after_what_was_drawn_of_it():
    """An iterator is read on from epoch to epoch; on resume what was used is thrown away."""
    from itertools import islice

    source = source_of(iter(PAIRS * 2))
    first = [y.tolist() for _, y, _ in islice(source.batches(0, 0), 2)]
    second = [y.tolist() for _, y, _ in islice(source.batches(1, 0), 1)]
    assert first + second == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    fresh = source_of(iter(PAIRS * 2))
    fresh.restore(source.state())
    assert targets(fresh, 1, 0, 1)[0] == [0, 1, 2, 3]


def test_an_evaluation_leaves_a_loaders_generator_as_it_was():
    """Reading data to look at them changes nothing about the order in which they are trained on."""
    generator = torch.Generator().manual_seed(4)
    source = source_of(DataLoader(Squares(), 2, shuffle=True, generator=generator))
    before = generator.get_state()
    with source.untouched():
        targets(source)
        assert not torch.equal(generator.get_state(), before)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.ones(3), torch.float32),
        (np.ones(3, "float32"), torch.float32),
        (np.ones(3, "int64"), torch.int64),
        (np.ones(3, "uint8"), torch.uint8),
        (np.ones(3, bool), torch.bool),
        (np.ones(3, ">i4"), torch.int32),
        (np.broadcast_to(np.ones(1, "float32"), (3,)), torch.float32),
        (np.ones((3, 2))[::-1, 0], torch.float32),
    ],
    ids="float64 float32 int64 uint8 bool big_endian read_only strided".split(),
)
def test_numpy_arrays_become_tensors(array, dtype):
    """NumPy's float64 becomes torch's default type, all else keeps its own."""
    tensor = as_tensor(array)
    assert tensor.dtype == dtype
    assert tensor.tolist() == array.tolist()


def test_float64_tensors_stay_as_they_are():
    """Whoever made a float64 tensor meant it."""
    assert as_tensor(torch.ones(2, dtype=torch.float64)).dtype == torch.float64


Named = namedtuple("Named", "ids mask")


@pytest.mark.parametrize(
    "inputs",
    [
        {"a": X, "b": [X, X]},
        (X, {"b": X}),
        Named(X, X),
        [X, "text", None],
        (X.numpy().astype("float32"),),
    ],
    ids="mapping tuple namedtuple text numpy".split(),
)
def test_nested_structures_move_to_the_device(inputs):
    """Tensors and arrays move, containers keep their type, everything else stays as it is."""
    moved = to_device(inputs, torch.device("meta"))
    assert type(moved) is type(inputs)

    def tensors(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list | tuple):
            return [one for part in value for one in tensors(part)]
        return [value] if hasattr(value, "ndim") else []

    assert {one.device.type for one in tensors(moved)} == {"meta"}


@pytest.mark.parametrize(
    ("inputs", "size"),
    [(X, 10), ({"a": X[:3]}, 3), ((X[:4], X), 4), (torch.tensor(1.0), 1), ("text", 1)],
    ids="tensor mapping tuple scalar text".split(),
)
def test_the_size_of_a_batch_is_the_first_dimension_of_its_first_tensor(inputs, size):
    """It weighs the means of an epoch; a batch without tensors counts as one sample."""
    assert size_of(inputs) == size


def test_validation_split_holds_out_the_last_samples():
    """The tail of the arrays is cut off before any shuffling, as in Keras."""
    (x, y), (held_x, held_y) = split((X, {"a": Y}), 0.3)
    assert y["a"].tolist() == list(range(7))
    assert held_y["a"].tolist() == [7, 8, 9]
    assert torch.equal(torch.cat([x, held_x]), X)


def test_a_list_inside_of_the_pair_is_several_inputs():
    """([a, b], y), as Keras has it, is one pair of arrays and not two batches."""
    source = source_of(([X, X + 1], Y), batch_size=4, shuffle=False)
    first, *_ = [inputs for inputs, _, _ in source.batches(0, 0)]
    assert [part.tolist() for part in first] == [X[:4].tolist(), (X[:4] + 1).tolist()]


def test_workers_are_started_with_the_signals_blocked():
    """A signal to the process group must not kill them, so they inherit a mask."""
    import signal

    class Masks(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            return torch.tensor([{signal.SIGTERM, signal.SIGINT} <= blocked]), torch.tensor([0])

    loader = DataLoader(Masks(), 1, num_workers=2, multiprocessing_context="fork")
    assert [x.item() for x, _, _ in source_of(loader).batches(0, 0)] == [True, True]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
