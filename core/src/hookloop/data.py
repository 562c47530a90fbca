"""Data: from arrays, datasets, loaders and iterables to batches, in a resumable order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import chain, islice
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from hookloop import rng
from hookloop.errors import ArgumentError, DataError
from hookloop.loaders import begin, condition_of, order_of, own_iterator, persists
from hookloop.structures import (
    are_numbers,
    as_tensor,
    is_array,
    is_arrays,
    leaves,
    map_structure,
    size_of,
)
from hookloop.transfer import Transfer

DEFAULT_BATCH_SIZE = 32
_PAIRS = (list, tuple)
_OWN_SAMPLERS = (SequentialSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler)

#: One batch on the device: what the model gets, what it should say, and how many samples.
Batch = tuple[Any, Any, int]


class Source:
    """Where the batches of a run come from.

    Attributes:
        steps: Batches an epoch, None where unknown.
        samples: Samples an epoch, None where unknown.
        batch_size: Samples a batch, None where unknown.
        order: In words, what decides the order of the samples.
        workers: Processes that prepare the batches, None where that is not a question.
        once: Whether the data can be read only once.
    """

    steps: int | None = None
    samples: int | None = None
    batch_size: int | None = None
    order = ""
    workers: int | None = None
    once = False

    def at_most(self, limit: int | None) -> int | None:
        """Tell how many batches an epoch has that is cut at a limit; None where unknown."""
        known = [steps for steps in (self.steps, limit) if steps is not None]
        return min(known, default=None)

    def batches(self, epoch: int, seed: int, skip: int = 0, resume: Any = None) -> Iterator[Batch]:
        """Give the batches of one epoch.

        Args:
            epoch: Index of the epoch; with the seed it decides the order.
            seed: Seed of the run.
            skip: Batches that an earlier run has used already.
            resume: For ``skip``: what `state` gave when the state of that run was saved.
        """
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """What is needed to continue inside an epoch, apart from epoch, batch and seed."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue at the start of an epoch."""

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Run a block whose reading of the data leaves no trace in them."""
        yield

    def cost_of_skipping(self) -> str | None:
        """Say what going on inside an epoch costs; None if it costs nothing."""
        return None

    def condition(self) -> str | None:
        """Say what has to hold for going on to be exact; None if it is, whatever the data do."""
        return None


class ArraySource(Source):
    """Batches selected by index from arrays that are in memory.

    Args:
        inputs: Array, tensor, or structure of them; the first dimension is the samples.
        targets: The same, or None.
        batch_size: Samples a batch; the last one of an epoch may be smaller.
        shuffle: Whether the order is drawn from seed and epoch.
        device: Where the batches go.
    """

    samples: int
    batch_size: int

    def __init__(
        self, inputs: Any, targets: Any, batch_size: int, *, shuffle: bool, device: torch.device
    ) -> None:
        self._data = map_structure((inputs, targets), as_tensor)
        lengths = {len(leaf) for leaf in leaves(self._data)}
        if len(lengths) != 1:
            message = f"The arrays have different lengths: {sorted(lengths)}."
            raise DataError(message, fix="give every array one row a sample")
        if lengths == {0}:
            raise DataError("The arrays hold no sample.", fix="pass at least one")
        self.samples = lengths.pop()
        self.batch_size = batch_size
        self.steps = -(-self.samples // batch_size)
        self._shuffle = shuffle
        self._transfer = Transfer(device)
        self.order = "shuffled" if shuffle else "as it is"

    def batches(self, epoch: int, seed: int, skip: int = 0, resume: Any = None) -> Iterator[Batch]:
        size, samples, order = self.batch_size, self.samples, None
        home, transfer, pick = next(leaves(self._data)).device, self._transfer, self._transfer.pick
        if self._shuffle:
            order = epoch_order(samples, seed, epoch).to(home)
        x, y = self._data
        simple = isinstance(x, Tensor) and isinstance(y, Tensor)
        for start in range(skip * size, samples, size):
            end = min(start + size, samples)
            rows = torch.arange(start, end, device=home) if order is None else order[start:end]
            batch = (pick(x, rows), pick(y, rows)) if simple else _picked(self._data, rows, pick)
            inputs, targets = transfer(batch)
            yield inputs, targets, end - start


def _picked(data: Any, rows: Tensor, pick: Callable[[Tensor, Tensor], Tensor]) -> Any:
    return map_structure(data, lambda leaf: pick(leaf, rows))


class IterableSource(Source):
    """Batches of a ``DataLoader`` or of any other iterable, which is never rebuilt.

    Args:
        iterable: Yields ``(inputs, targets)``.
        device: Where the batches go.
        paired: False where targets may be missing, as in prediction.
    """

    def __init__(
        self, iterable: Iterable[Any], device: torch.device, *, paired: bool = True
    ) -> None:
        self._iterable = iterable
        self._transfer, self._on_cpu = Transfer(device), device.type == "cpu"
        self._unpack = _no_pair if paired else _inputs
        self.once = hasattr(iterable, "__next__") and iter(iterable) is iterable
        self._drawn = 0
        self._ordered = isinstance(iterable, list | tuple)
        self._start: dict[str, Any] = {}
        try:
            self.steps = len(iterable)  # type: ignore[arg-type]
        except TypeError:
            self.steps = None
        self.batch_size = getattr(iterable, "batch_size", None)
        self.workers, self.order = getattr(iterable, "num_workers", None), order_of(iterable)
        self.samples = self._count_samples()

    def _count_samples(self) -> int | None:
        try:
            return len(self._iterable.dataset)  # type: ignore[attr-defined]
        except (AttributeError, TypeError):
            return None

    def batches(self, epoch: int, seed: int, skip: int = 0, resume: Any = None) -> Iterator[Batch]:
        transfer, unpack, here = self._transfer, self._unpack, self._on_cpu
        with own_iterator(self._iterable):
            for item in self.items(epoch, seed, skip, resume or {}):
                pair = type(item) in _PAIRS and len(item) == 2
                inputs, targets = item if pair else unpack(item)
                if here and type(inputs) is type(targets) is Tensor and (shape := inputs.shape):
                    yield inputs, targets, shape[0]  # the usual case, at the least cost
                else:
                    inputs, targets = transfer((inputs, targets))
                    yield inputs, targets, size_of(inputs)

    def items(self, epoch: int, seed: int, skip: int, resume: Mapping[str, Any]) -> Iterator[Any]:
        """Give the batches of one epoch as they come; arguments as for `batches`."""
        if self.once:
            return self._counted()
        if self._ordered:
            return islice(iter(self._iterable), skip, None)
        if skip:
            self._set_generators(resume.get("epoch"))
            if resume.get("loader") is not None:
                self._iterable.load_state_dict(resume["loader"])  # type: ignore[attr-defined]
                skip = 0
        self._start = {"epoch": [one.get_state() for one in self._generators()]}
        by_index = skip > 0 and self._skips_indices()
        self._start_workers(epoch, seed)
        with self._order(seed, epoch, resume):
            iterator: Any = begin(self._iterable)
            # Samplers draw their order with the first item, so that belongs in here too.
            indices = iterator._sampler_iter if by_index else iterator
            head = list(islice(indices, skip if by_index else 1))
        if skip:
            head = []
            self._throw_away(iterator, 0 if by_index else skip - 1, resume)
            self._set_generators(resume.get("now"))
        return chain(head, iterator)

    def _start_workers(self, epoch: int, seed: int) -> None:
        """Start workers that persist, so that every epoch, the first one too, only resets them.

        Starting them draws a number that resetting does not, and the order comes after it.
        """
        loader = self._iterable
        if persists(loader) and loader._iterator is None:  # type: ignore[attr-defined]
            with self.untouched(), rng.fork(), self._order(seed, epoch, {}):
                begin(loader)

    def _order(
        self, seed: int, epoch: int, resume: Mapping[str, Any]
    ) -> AbstractContextManager[None]:
        """Give the random numbers under which the order of an epoch is drawn."""
        return rng.derived(seed, epoch)

    def _counted(self) -> Iterator[Any]:
        for item in self._iterable:
            self._drawn += 1
            yield item

    def _throw_away(self, iterator: Iterator[Any], count: int, resume: Mapping[str, Any]) -> None:
        """Draw batches again that were used already, with the random numbers of that time."""
        if count:
            with rng.fork():
                rng.restore(resume["random"])
                for _ in islice(iterator, count):
                    pass

    def _skips_indices(self) -> bool:
        loader = self._iterable
        return (
            isinstance(loader, DataLoader)
            and loader.num_workers == 0
            and not isinstance(loader.dataset, IterableDataset)
            and type(loader.batch_sampler) in (BatchSampler, type(None))
            and isinstance(getattr(loader.batch_sampler, "sampler", loader.sampler), _OWN_SAMPLERS)
        )

    def _generators(self) -> list[torch.Generator]:
        """Find the loader's own generators, each once."""
        loader = self._iterable
        sampler = getattr(loader, "sampler", None)
        batches = getattr(loader, "batch_sampler", None)
        holders = (loader, sampler, batches, getattr(batches, "sampler", None))
        found = {id(g): g for one in holders if (g := getattr(one, "generator", None)) is not None}
        return [one for one in found.values() if isinstance(one, torch.Generator)]

    def _set_generators(self, states: Any) -> None:
        for generator, state in zip(self._generators(), states or (), strict=False):
            generator.set_state(state)

    def state(self) -> dict[str, Any]:
        now = {"now": [generator.get_state() for generator in self._generators()]}
        stateful = getattr(self._iterable, "state_dict", None)
        loader = stateful() if callable(stateful) else None
        return {**self._start, **now, "loader": loader, "drawn": self._drawn}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._set_generators(state.get("now"))
        if self.once:
            with rng.fork():
                for _ in islice(self._counted(), state["drawn"]):
                    pass

    @contextmanager
    def untouched(self) -> Iterator[None]:
        before = [generator.get_state() for generator in self._generators()]
        try:
            yield
        finally:
            self._set_generators(before)

    def cost_of_skipping(self) -> str | None:
        if self.once:
            return (
                "the batches that were used already are drawn from the iterator again and thrown "
                "away, so it has to begin afresh"
            )
        if self._ordered or self._skips_indices() or hasattr(self._iterable, "state_dict"):
            return None
        condition = self.condition()
        again = "the batches that were used already are drawn again and thrown away"
        return again if condition is None else f"{again}; that is exact if {condition}"

    def condition(self) -> str | None:
        if self.once:
            return "the iterator begins afresh, and gives the same batches again"
        if self._ordered or self._skips_indices() or hasattr(self._iterable, "state_dict"):
            return None
        return condition_of(self._iterable)


def about(source: Source) -> dict[str, Any]:
    """Say in words what a source gives, to be compared with that of another run."""
    return {
        "batch size": source.batch_size,
        "batches": source.steps,
        "samples": source.samples,
        "order of the data": source.order,
        "loader workers": source.workers,
    }


def make_source(
    data: Any,
    *,
    batch_size: int | None,
    shuffle: bool,
    device: torch.device,
    paired: bool = True,
    whole: bool = False,
) -> Source:
    """Find out what kind of data this is.

    Args:
        data: ``(x, y)`` as arrays or tensors, a ``Dataset``, a ``DataLoader``, or any iterable of
            ``(inputs, targets)``.
        batch_size: Samples a batch, for arrays and datasets; 32 unless given.
        shuffle: Whether arrays and datasets are shuffled, by seed and epoch.
        device: Where the batches go.
        paired: False for prediction, which needs no targets.
        whole: For prediction, whether a tuple of two arrays is two inputs.

    Raises:
        ArgumentError: If a batch size is given for data that come in batches.
        DataError: If these are no data.
    """
    size = batch_size or DEFAULT_BATCH_SIZE
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        data = data.tensors
    pair = isinstance(data, tuple) and len(data) == 2 and not whole
    _refuse_half_pairs(data, pair=pair, paired=paired)
    if is_arrays(data):
        inputs, targets = data if pair else (data, ())
        return ArraySource(inputs, targets, size, shuffle=shuffle, device=device)
    if isinstance(data, Dataset):
        mapped = not isinstance(data, IterableDataset)
        if mapped and _length(data) == 0:
            raise DataError("The dataset holds no sample.", fix="pass one with at least one")
        loader = DataLoader(data, size, shuffle=shuffle and mapped)
        return IterableSource(loader, device, paired=paired)
    if not isinstance(data, Iterable) or isinstance(data, str | bytes | Mapping | Tensor):
        fix = "pass (x, y) as arrays or tensors, a Dataset, a DataLoader, or an iterable of batches"
        if inspect.isgeneratorfunction(data):
            fix = f"pass {data.__name__}(); for several epochs, an object whose __iter__ is like it"
        raise DataError(f"The data are a {type(data).__name__}.", fix=fix)
    if batch_size is not None:
        message = f"batch_size={batch_size} is given for data that come in batches already."
        raise ArgumentError(message, fix="leave batch_size out, or set it in the DataLoader")
    source = IterableSource(data, device, paired=paired)
    if source.steps == 0:
        fix = "pass data with at least one batch (drop_last drops a last one that is not full)"
        raise DataError("The data hold no batch.", fix=fix)
    return source


def _refuse_half_pairs(data: Any, *, pair: bool, paired: bool) -> None:
    """Refuse what is meant as inputs and targets, but is not quite."""
    if is_arrays(data):
        if pair or not paired:
            return
        held = f"tuple of {len(data)} arrays" if isinstance(data, tuple) else type(data).__name__
        fix = "pass (inputs, targets); several inputs are one tuple or mapping: ((a, b), targets)"
        raise DataError(f"The data are a {held}, not a pair.", fix=fix)
    if pair and ([is_arrays(one) for one in data].count(True) == 1 or any(map(are_numbers, data))):
        held = " and ".join(f"a {type(one).__name__}" for one in data)
        fix = "make arrays or tensors of both; batches come in a list"
        raise DataError(f"The data are a pair of {held}.", fix=fix)
    if paired and isinstance(data, list) and len(data) == 2:
        for parts, of, held in ((is_array, "", "arrays"), (are_numbers, " of arrays", "lists")):
            if all(map(parts, data)):
                message = f"The data are a list of two {held}, and a list is a list of batches."
                raise DataError(message, fix=f"pass the tuple (x, y){of}")


def _length(data: Any) -> int:
    try:
        return len(data)
    except TypeError:
        message = f"The dataset {type(data).__name__} has no length."
        raise DataError(message, fix="give it __len__, or derive it from IterableDataset") from None


def epoch_order(samples: int, seed: int, epoch: int) -> Tensor:
    """Draw the order of the samples in one epoch: a function of seed and epoch alone.

    Returns:
        int64 tensor of shape (samples,), a permutation.
    """
    generator = torch.Generator().manual_seed(rng.mixed(seed, epoch))
    return torch.randperm(samples, generator=generator)


def _no_pair(item: Any) -> NoReturn:
    held = f"{len(item)} parts" if isinstance(item, list | tuple) else f"a {type(item).__name__}"
    message = f"A batch is {held}, not a pair of inputs and targets."
    fix = "yield (inputs, targets), each of which may be a tuple or mapping of tensors"
    raise DataError(message, fix=fix)


def _inputs(item: Any) -> tuple[Any, Any]:
    return item, None
