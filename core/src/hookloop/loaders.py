"""Loaders with workers: starting them out of reach of signals, and reading one twice at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from weakref import WeakSet

from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from hookloop.signals import heeded

#: Said when a run starts, of `condition_of` its data.
IF = "A run that goes on from a saved state inside an epoch will be exact if {}."
#: Loaders with persistent workers that are being read: their one iterator is in use.
_IN_USE: WeakSet[Any] = WeakSet()


def persists(loader: Any) -> bool:
    """Tell whether a loader keeps its workers, and with them its one iterator, between epochs."""
    return isinstance(loader, DataLoader) and loader.persistent_workers


def order_of(data: Any) -> str:
    """Say in words what decides the order of what an iterable gives: a loader's sampler, mostly."""
    if not isinstance(data, DataLoader):
        return type(data).__name__
    if isinstance(data.dataset, IterableDataset):
        return type(data.dataset).__name__
    batches = data.batch_sampler
    sampler = data.sampler if type(batches) in (BatchSampler, type(None)) else batches
    own = getattr(data, "generator", None) or getattr(sampler, "generator", None)
    return f"{type(sampler).__name__}{' with its own generator' if own is not None else ''}"


def condition_of(data: Any) -> str | None:
    """Say what has to hold for batches that are drawn again to be the same ones."""
    if persists(data):
        return "no random numbers are drawn in the persistent workers, which are not put back"
    if not isinstance(data, DataLoader) or isinstance(data.dataset, IterableDataset):
        return "the same ones come again, with no random numbers drawn in turn with the model"
    if not data.num_workers:
        return "no random numbers are drawn in turn with the model"
    return None


def own_iterator(loader: Any) -> AbstractContextManager[None]:
    """Leave the one iterator of persistent workers alone while an outer pass is using it."""
    return _set_aside(loader) if persists(loader) else nullcontext()


@contextmanager
def _set_aside(loader: Any) -> Iterator[None]:
    nested, before = loader in _IN_USE, loader._iterator
    if nested:
        loader._iterator = None
    _IN_USE.add(loader)
    try:
        yield
    finally:
        if nested:
            loader._iterator = before
        else:
            _IN_USE.discard(loader)


def workers_ignore_signals(loader: Any) -> AbstractContextManager[None]:
    """Start a loader's workers with the signals that a run heeds blocked, which they inherit.

    A scheduler signals the whole process group, and a worker that dies of it would end the run in
    the middle of a batch.
    """
    blocks = getattr(loader, "num_workers", 0) and hasattr(signal, "pthread_sigmask")
    return _signals_blocked() if blocks else nullcontext()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heeded())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
