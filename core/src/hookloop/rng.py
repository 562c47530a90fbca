"""Random numbers: saving, restoring, forking, and deriving them from a seed and an epoch."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from hookloop import twister
from hookloop.generators import capture, cuda_in_use, restore

__all__ = ["capture", "derived", "fork", "mixed", "restore", "seed_all"]

_GOLDEN = 0x9E3779B97F4A7C15


def fork() -> AbstractContextManager[None]:
    """Run a block whose draws leave no trace: all generators are put back afterwards."""
    return _Fork()


def derived(seed: int, epoch: int) -> AbstractContextManager[None]:
    """Run a block under generators that are a function of seed and epoch alone."""
    return _Fork(mixed(seed, epoch))


class _Fork:
    """Puts all generators back; a class, as a generator function takes three times as long.

    Args:
        seed: What they are seeded with meanwhile, if with anything.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed

    def __enter__(self) -> None:
        import torch

        self._numbers, self._torch = twister.take(), torch.get_rng_state()
        cuda = cuda_in_use()
        self._cuda = torch.cuda.get_rng_state_all() if cuda else []
        if self._seed is None:
            return
        try:
            # torch.manual_seed takes as long as all the rest: for each kind of accelerator that is
            # not in use it formats a traceback.
            _seed(self._seed, torch.default_generator.manual_seed)
            if cuda:
                torch.cuda.manual_seed_all(self._seed)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        import torch

        twister.put(self._numbers)
        torch.set_rng_state(self._torch)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)


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
