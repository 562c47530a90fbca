"""Loaders with workers: starting them out of reach of signals, and reading one twice at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing import active_children, get_context, parent_process, resource_tracker
from typing import Any
from weakref import WeakSet, proxy

import torch
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


def begin(loader: Any) -> Iterator[Any]:
    """Begin an epoch, and give its iterator; workers are started out of reach of signals.

    They inherit that the signals are blocked which a run heeds: a scheduler signals the whole
    process group, and a worker that dies of it would end the run in the middle of a batch.
    """
    if not getattr(loader, "num_workers", 0) or not hasattr(signal, "pthread_sigmask"):
        return iter(loader)
    context = getattr(loader, "multiprocessing_context", None) or get_context()
    forked = context.get_start_method() == "fork"
    with _signals_blocked(forked=forked), _no_orphans(loader, forked=forked):
        iterator: Iterator[Any] = iter(loader)
    _keep_queues(iterator)
    return iterator


@contextmanager
def _no_orphans(loader: Any, *, forked: bool) -> Iterator[None]:
    """Have workers end whose process was killed while it started them.

    torch has a worker ask, once it has begun, which process it belongs to. One that began too late
    would wait for ever, with what it holds: memory, and the files that it shares.
    """
    if not isinstance(loader, DataLoader):
        yield
        return
    chosen: Any = loader.worker_init_fn
    if isinstance(chosen, partial) and chosen.func is _begin_worker:  # set by another thread
        chosen = chosen.args[0]
    with suppress(AttributeError):  # of a loader that lets nothing be set
        loader.worker_init_fn = partial(_begin_worker, chosen, forked)
    try:
        yield
    finally:
        with suppress(AttributeError):
            loader.worker_init_fn = chosen


def _begin_worker(chosen: Callable[[int], None] | None, forked: bool, worker: int) -> None:
    """Have a worker know its process from the start, and do what the user has it do."""
    torch_s: Any = torch.utils.data._utils.worker
    torch_s.ManagerWatchdog = partial(_Watchdog, forked)
    if chosen is not None:
        chosen(worker)


class _Watchdog:
    """Tells whether the process lives that started this worker, in the place of torch's.

    Args:
        forked: Whether the worker is its fork. Then its siblings may hold the pipe open by which it
            would hear of the end. Otherwise it may be a child of the server that starts workers.
    """

    def __init__(self, forked: bool) -> None:
        self._forked, self._process = forked, parent_process()

    def is_alive(self) -> bool:
        process: Any = self._process
        return bool(process.pid == os.getppid() if self._forked else process.is_alive())


def _keep_queues(iterator: Any) -> None:
    """Have workers hear that they should end, though it is the collector that finds the iterator.

    What is garbage with it is closed before it can say so. What a live process holds is not.
    """
    workers, queues = (getattr(iterator, name, ()) for name in ("_workers", "_index_queues"))
    for worker, queue in zip(workers, queues, strict=False):
        worker.hookloop_queue = queue


@contextmanager
def _signals_blocked(*, forked: bool) -> Iterator[None]:
    others = {*active_children()}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heeded())
    try:
        if not forked:  # then Python needs one process more, after which it lets signals through
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, heeded())
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for worker in {*active_children()} - others:
            popen: Any = worker._popen  # type: ignore[attr-defined]
            # A proxy, as in a cycle it would keep its file open until the collector runs.
            popen.terminate = partial(_kill, proxy(popen))


def _kill(popen: Any) -> None:
    """End a worker that blocks SIGTERM, by which torch and Python end one that is stuck.

    Python then waits for it, for ever. torch raises an error in here if it still watches the
    worker, as it does when the process exits.
    """
    with suppress(RuntimeError):
        popen.kill()
        popen.wait(5)
    popen.wait(5)
