"""Watching a callback's own hooks: what each of them changes, reads and allocates."""

from __future__ import annotations

import functools
import inspect
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar

import numpy
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from hookloop import logs as logs_module
from hookloop import means as means_module
from hookloop.implementations import implementations
from hookloop.logs import Logs
from hookloop.registry import Registry
from hookloop.testing.runs import same
from hookloop.testing.tiny import TinyLoop

#: Hooks that run once a batch, where waiting for an accelerator costs most.
BATCH_HOOKS = (
    "on_train_batch_begin",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_test_batch_begin",
    "on_test_batch_end",
    "on_predict_batch_begin",
    "on_predict_batch_end",
)
#: Functions of tensors that wait for the device.
_READS = frozenset(
    "item tolist numpy cpu __array__ __bool__ __float__ __int__ __index__ __format__ __repr__ "
    "equal allclose is_nonzero nonzero unique masked_select".split()
)
#: What the trainer measures in a batch: on an accelerator it stays there until somebody reads it.
_MEASURED = ("loss", "mae")
#: Where core treats a number on the CPU as one on an accelerator cannot be: that it does not read.
_CORE = (logs_module.detached.__code__, means_module._addend.__code__)

Found = dict[str, list[str]]


class Watcher:
    """Watches every hook of a callback while it runs.

    Args:
        callback: Each of its hooks is replaced, on the instance, by one that is watched.
        tiny: What it is run with.

    Attributes:
        found: The hooks, by what they did: ``model``, ``optimizer``, ``rng``, ``logs``, ``stop``,
            ``reads``, ``allocates``.
    """

    def __init__(self, callback: Any, tiny: TinyLoop) -> None:
        self.callback, self.tiny = callback, tiny
        self.found: Found = defaultdict(list)
        known = Registry([("watched", callback)]).hooks
        for one in list(implementations(callback, "watched", 0, known)):
            setattr(callback, one.hook, self._watched(one.hook, one.function))

    def _watched(self, hook: str, function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)

        def logs_of(args: Any, kwargs: Any) -> Any:
            return signature.bind(*args, **kwargs).arguments.get("logs")

        @functools.wraps(function)
        def plain(*args: Any, **kwargs: Any) -> Any:
            with self._around(hook, logs_of(args, kwargs)):
                return function(*args, **kwargs)

        @functools.wraps(function)
        def wrapping(*args: Any, **kwargs: Any) -> Generator[None, Any, Any]:
            generator = function(*args, **kwargs)
            with self._around(hook, logs_of(args, kwargs)):
                next(generator)
            try:
                result = yield
            except BaseException as error:
                generator.throw(error)
                raise
            with self._around(hook, logs_of(args, kwargs)):
                try:
                    generator.send(result)
                except StopIteration as stop:
                    result = stop.value
            return result

        return wrapping if inspect.isgeneratorfunction(function) else plain

    @contextmanager
    def _around(self, hook: str, logs: Any) -> Iterator[None]:
        loop = getattr(self.callback, "loop", None)
        before = self._look(loop, logs)
        with self._batch_work(hook, logs) if hook in BATCH_HOOKS else nullcontext():
            yield
        after = self._look(loop, logs)
        for what, then in before.items():
            if not same(then, after[what]):
                self._note(what, hook)

    def _note(self, what: str, hook: str) -> None:
        if hook not in self.found[what]:
            self.found[what].append(hook)

    def _look(self, loop: Any, logs: Any) -> dict[str, Any]:
        kept = [dict(one.raw_items()) for one in _all_logs(loop, logs)]
        return {
            "model": model_now(self.tiny.model),
            "optimizer": optimizer_now(self.tiny.optimizer),
            "rng": rng_now(),
            "logs": kept,
            "stop": [*loop.asked, loop.flagged()] if loop is not None else [],
        }

    @contextmanager
    def _batch_work(self, hook: str, logs: Any) -> Iterator[None]:
        def note(what: str) -> None:
            self._note(what, hook)

        watched = _all_logs(getattr(self.callback, "loop", None), logs)
        _WatchedLogs.note = note
        for one in watched:
            one.__class__ = _WatchedLogs
        try:
            with _Allocations(note), _Reads(note):
                yield
        finally:
            for one in watched:
                one.__class__ = Logs


def _all_logs(loop: Any, logs: Any) -> list[Any]:
    found = [logs] if type(logs) is Logs else []
    own = getattr(loop, "logs", None)
    return [*found, own] if type(own) is Logs and own is not logs else found


def model_now(model: Any) -> Any:
    """Copy what is to stay as it is of a model: weights, gradients, modes, hooks."""
    return {
        "weights": {name: value.detach().clone() for name, value in model.state_dict().items()},
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "trained": [p.requires_grad for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [
            len(module._forward_hooks)
            + len(module._forward_pre_hooks)
            + len(module._backward_hooks)
            for module in model.modules()
        ],
    }


def optimizer_now(optimizer: Any) -> Any:
    """Copy rates and state of an optimizer."""
    state = optimizer.state_dict()
    return {
        "groups": [dict(group) for group in state["param_groups"]],
        "state": {
            index: {k: v.clone() if hasattr(v, "clone") else v for k, v in own.items()}
            for index, own in state["state"].items()
        },
    }


def rng_now() -> Any:
    """Give the states of all generators."""
    numbers: Any = numpy.random.get_state(legacy=True)
    return [random.getstate(), numbers[1].tolist(), numbers[2], torch.get_rng_state()]


class _Reads(TorchFunctionMode):
    """Notes each call that waits for the device."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self.note = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        moved = getattr(func, "__name__", "") == "to" and any("cpu" in str(a) for a in args[1:])
        if (getattr(func, "__name__", "") in _READS or moved) and not _is_core():
            self.note("reads")
        return func(*args, **(kwargs or {}))


class _Allocations(TorchDispatchMode):
    """Notes each operation that gives a tensor with memory of its own."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.note = note

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {_memory(one) for one in _tensors([args, kwargs or {}])}
        new = any(_memory(one) not in known for one in _tensors(result))
        if new and not _is_core():
            self.note("allocates")
        return result


class _WatchedLogs(Logs):
    """Logs that note when somebody reads what the loop has measured.

    On the class, as logs that exist already become such ones and have no room for more.
    """

    __slots__ = ()
    note: ClassVar[Callable[[str], None]]

    def __getitem__(self, key: str) -> Any:
        if key in _MEASURED:
            type(self).note("reads")
        return super().__getitem__(key)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _is_core() -> bool:
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_code in _CORE:
            return True
        frame = frame.f_back
    return False
