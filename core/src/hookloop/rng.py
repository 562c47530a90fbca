"""Random numbers: saving, restoring, forking, and deriving them from a seed and an epoch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_GOLDEN = 0x9E3779B97F4A7C15


def capture() -> dict[str, Any]:
    """Take the states of Python's, NumPy's and torch's generators, CUDA's included, as plain data.

    Returns:
        ``python``: list of ints; ``numpy``: list with an int64 tensor of shape (624,); ``torch``:
        uint8 tensor; ``cuda``: list of uint8 tensors, one a device.
    """
    import numpy
    import torch

    version, internal, gauss = random.getstate()
    numbers: Any = numpy.random.get_state(legacy=True)
    name, keys, position, has_gauss, cached = numbers
    keys = torch.from_numpy(keys.astype("int64"))
    return {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), keys, int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if _cuda_in_use() else [],
    }


def restore(state: Mapping[str, Any]) -> None:
    """Put back what `capture` took."""
    import numpy
    import torch

    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    numpy.random.set_state(numpy_state(state["numpy"]))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


def numpy_state(saved: Any) -> tuple[Any, ...]:
    """Give NumPy's part of what `capture` took as NumPy takes it."""
    name, keys, position, has_gauss, cached = saved
    return (name, keys.numpy().astype("uint32"), position, has_gauss, cached)


@contextmanager
def fork() -> Iterator[None]:
    """Run a block whose draws leave no trace: all generators are put back afterwards."""
    before = capture()
    try:
        yield
    finally:
        restore(before)


@contextmanager
def derived(seed: int, epoch: int) -> Iterator[None]:
    """Run a block under generators that are a function of seed and epoch alone."""
    import torch

    with fork():
        # torch.manual_seed takes as long as all the rest: for each kind of accelerator that is not
        # in use it formats a traceback.
        _seed(mixed(seed, epoch), torch.default_generator.manual_seed)
        if _cuda_in_use():
            torch.cuda.manual_seed_all(mixed(seed, epoch))
        yield


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators."""
    import torch

    _seed(seed, torch.manual_seed)


def _seed(seed: int, seed_torch: Callable[[int], Any]) -> None:
    import numpy

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    seed_torch(seed)


def mixed(seed: int, epoch: int) -> int:
    """Derive the seed of one epoch, so that neighbours share nothing (SplitMix64's finalizer)."""
    value = (seed + _GOLDEN * (epoch + 1)) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return (value ^ value >> 31) % 2**63


def _cuda_in_use() -> bool:
    import torch

    return torch.cuda.is_available() and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
