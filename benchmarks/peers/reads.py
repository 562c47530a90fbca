"""How often a training step reads a number of a tensor.

On an accelerator each is a wait for everything that is queued. What counts is a conversion of a
tensor to something of Python: ``item``, ``float()``, ``tolist``, ``numpy``, ``cpu`` and so on. Not
counted are those of torch's optimizers, whose counters of steps are on the CPU in any case.

On a machine without an accelerator hookloop is told that its tensors are on one, as it reads on
the CPU on purpose, where that is cheaper than a sum on the device.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from jobs import Job
from torch import Tensor
from trainers import train_of

CONVERSIONS = "item tolist numpy cpu __float__ __int__ __bool__ __index__ __array__".split()


class Counter:
    """Counts conversions while it is running.

    Args:
        real: Whether there is an accelerator: tensors elsewhere do not count then.

    Attributes:
        count: How many there were.
        running: Whether they are counted.
        places: The same by file and line.
    """

    def __init__(self, real: bool) -> None:
        self.real = real
        self.count, self.running = 0, False
        self.places: dict[str, int] = {}
        self._inside = False
        self._copies: list[Tensor] = []

    def counting(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Make a method of tensors that counts."""

        def convert(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if not self.running or self._inside:
                return original(tensor, *args, **kwargs)
            self._inside = True  # float() calls item(), which is one read
            try:
                if name != "to" or (_to_the_cpu(args) and not kwargs.get("non_blocking")):
                    self._take(tensor, sys._getframe(1))
                found = original(tensor, *args, **kwargs)
                if name == "cpu" or (name == "to" and _to_the_cpu(args)):
                    self._copies.append(found)
                return found
            finally:
                self._inside = False

        return convert

    def _take(self, tensor: Tensor, frame: Any) -> None:
        file = frame.f_code.co_filename.replace("\\", "/")
        if "/torch/optim/" in file or any(tensor is copy for copy in self._copies):
            return  # what cpu() has given is with Python already
        if self.real and not tensor.is_cuda:
            return
        self.count += 1
        place = f"{'/'.join(file.rsplit('/', 3)[-3:])}:{frame.f_lineno}"
        self.places[place] = self.places.get(place, 0) + 1


def _to_the_cpu(args: tuple[Any, ...]) -> bool:
    return bool(args) and args[0] == "cpu"


@contextlib.contextmanager
def counting(names: list[str], real: bool) -> Iterator[Counter]:
    """Count the conversions of all tensors, where the counter is started."""
    counter = Counter(real)
    kept = {name: getattr(Tensor, name) for name in names}
    own = {name for name in names if name in vars(Tensor)}
    for name, original in kept.items():
        setattr(Tensor, name, counter.counting(original, name))
    try:
        yield counter
    finally:
        for name, original in kept.items():
            if name in own:
                setattr(Tensor, name, original)
            else:
                delattr(Tensor, name)


class Arrived:
    """Stands for ``torch.Event``: what it is asked about has always happened."""

    def __init__(self, *about: Any) -> None: ...
    def record(self, *about: Any) -> None: ...
    def synchronize(self) -> None: ...
    def query(self) -> bool:
        return True


class Pretended:
    """Tells hookloop that model and tensors are on an accelerator, while they stay where they are.

    The loop is told from the beginning; tensors say so only while steps are counted.
    """

    def __init__(self) -> None:
        from hookloop.loop import Loop

        self._loop, self._device = Loop, Loop.device
        self._event, self._stream = torch.Event, torch.accelerator.current_stream
        self._accelerator = torch.device("cuda")
        Loop.device = property(lambda loop: self._accelerator)  # type: ignore[assignment]

    def begin(self) -> None:
        """Let all tensors say it too."""
        Tensor.is_cpu = property(lambda tensor: False)  # type: ignore[assignment]
        Tensor.device = property(lambda tensor: self._accelerator)  # type: ignore[assignment]
        torch.Event = Arrived  # type: ignore[assignment,misc]
        torch.accelerator.current_stream = lambda *about: None  # type: ignore[assignment]

    def end(self) -> None:
        """Let them say the truth again."""
        if "device" in vars(Tensor):
            del Tensor.is_cpu, Tensor.device
        torch.Event = self._event  # type: ignore[misc]
        torch.accelerator.current_stream = self._stream

    def close(self) -> None:
        """Put everything back."""
        self.end()
        self._loop.device = self._device  # type: ignore[method-assign]


def a_step(name: str, callbacks: str, device: str) -> tuple[float, dict[str, int]]:
    """Count the reads of a step, in the middle of an epoch.

    Returns:
        How many a step, and by place.
    """
    first, last = 20, 120
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookloop-bench-")))
        job = Job("tiny", callbacks, last + 20, 1, 50, folder, device)
        train = train_of(name)
        pretended = Pretended() if name == "hookloop" and device == "cpu" else None
        names = CONVERSIONS + ["to"] * (pretended is not None or device != "cpu")
        counter = stack.enter_context(counting(names, real=device != "cpu"))

        def start() -> None:
            if pretended is not None:
                pretended.begin()
            counter.running = True

        def stop() -> None:
            counter.running = False
            if pretended is not None:
                pretended.end()

        if pretended is not None:
            stack.callback(pretended.close)
        job.batches.at = {first: start, last: stop}
        train(job)
    return counter.count / (last - first), counter.places
