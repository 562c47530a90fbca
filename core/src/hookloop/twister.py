"""Python's and NumPy's global random numbers, taken and put back at little cost.

Their own functions for that handle 624 numbers one by one, as Python objects: as much work as a
step of a small model, and it is done at the beginning of every epoch. Here the memory that holds
them is copied, once it is known by experiment where it is; where that fails, by those functions.
"""

from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Callable
from functools import cache, partial
from typing import Any

#: What half of a pair of normal numbers is set to, to find where it is kept.
_MARK = 0.7310585786300049
#: How a part of a state is asked for, and put back.
Part = tuple[Callable[[], Any], Callable[[Any], Any]]


def take() -> Any:
    """Take the state of both, for `put`."""
    import numpy

    numbers = _of_numpy(numpy.random.get_bit_generator())  # type: ignore[attr-defined]
    parts = [*_of_python(getattr(random.random, "__self__", None)), *numbers]
    return [(restore, read()) for read, restore in parts]


def put(taken: Any) -> None:
    """Put back what `take` took."""
    for restore, held in taken:
        restore(held)


@cache
def _of_python(around: Any) -> list[Part]:
    """Find the parts of Python's state: 624 numbers and a position; and the half of a pair."""
    if type(around) is random.Random:
        *words, position = random.getstate()[1]
        held = ctypes.string_at(id(around), around.__sizeof__())
        place = held.find(struct.pack("625I", position, *words))
        if place > 0:
            return [_memory(id(around) + place, 2500), _attribute(around, "gauss_next")]
    return [(random.getstate, random.setstate)]


@cache  # and so the generator outlives whatever was taken of it
def _of_numpy(generator: Any) -> list[Part]:
    """Find the parts of NumPy's state.

    That is 624 numbers and a position, of a Mersenne twister; and of the object around it, whether
    half of a pair of normal numbers is kept, and which.
    """
    import numpy

    # The object whose methods ``numpy.random.normal`` and the like are, unless somebody's own are.
    around = getattr(numpy.random.normal, "__self__", None)
    if type(generator) is numpy.random.MT19937 and type(around) is numpy.random.RandomState:
        twister, state = generator.ctypes.state_address, generator.state["state"]
        words = struct.unpack("625I", ctypes.string_at(twister, 2500))
        kept, pair = _tried(around, 1), _tried(around, 0)
        place = kept.find(struct.pack("d", _MARK)) - 8
        flags = [struct.unpack_from("i", held, place)[0] for held in (kept, pair) if place > 0]
        if [*words] == [*state["key"].tolist(), state["pos"]] and flags == [1, 0]:
            return [_memory(twister, 2500), _memory(id(around) + place, 16)]
    return [(partial(numpy.random.get_state, legacy=False), numpy.random.set_state)]


def _memory(address: int, size: int) -> Part:
    return _attribute((ctypes.c_char * size).from_address(address), "raw")


def _attribute(holder: Any, name: str) -> Part:
    return partial(getattr, holder, name), partial(setattr, holder, name)


def _tried(around: Any, kept: int) -> bytes:
    """Give an object's memory while half of a pair of normal numbers is kept, or is not."""
    before = around.get_state(legacy=False)
    try:
        around.set_state({**before, "has_gauss": kept, "gauss": _MARK})
        return ctypes.string_at(id(around), around.__sizeof__())
    finally:
        around.set_state(before)
