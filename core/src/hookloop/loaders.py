"""Loaders with workers: starting them out of reach of signals, and reading one twice at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from torch.utils.data import DataLoader

from hookloop.signals import heeded

#: Loaders with persistent workers that are being read: their one iterator is in use.
_IN_USE: WeakSet[Any] = WeakSet()


def persists(loader: Any) -> bool:
    """Tell whether a loader keeps its workers, and with them its one iterator, between epochs."""
    return isinstance(loader, DataLoader) and loader.persistent_workers


@contextmanager
def own_iterator(loader: Any) -> Iterator[None]:
    """Leave the one iterator of persistent workers alone while an outer pass is using it."""
    if not persists(loader):
        yield
        return
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


@contextmanager
def workers_ignore_signals(loader: Any) -> Iterator[None]:
    """Start a loader's workers with the signals that a run heeds blocked, which they inherit.

    A scheduler signals the whole process group, and a worker that dies of it would end the run in
    the middle of a batch.
    """
    if not getattr(loader, "num_workers", 0) or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heeded())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
