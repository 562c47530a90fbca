"""NumPy's global random numbers, taken and put back at little cost.

NumPy's own functions for that handle 624 numbers one by one, as Python objects: as much work as a
step of a small model, and it is done at the beginning of every epoch. Here the memory that holds
them is copied, once it is known by experiment where it is; where that fails, by those functions.
"""

from __future__ import annotations

import ctypes
import struct
from functools import cache
from typing import Any

#: What half of a pair of normal numbers is set to, to find where it is kept.
_MARK = 0.7310585786300049


def take() -> Any:
    """Take the state, for `put`."""
    import numpy

    places = _places(numpy.random.get_bit_generator())  # type: ignore[attr-defined]
    if not places:
        return numpy.random.get_state(legacy=False)
    return [(place, place.raw) for place in places]


def put(taken: Any) -> None:
    """Put back what `take` took."""
    if isinstance(taken, dict):
        import numpy

        numpy.random.set_state(taken)
        return
    for place, held in taken:
        place.raw = held


@cache  # and so the generator outlives whatever was taken of it
def _places(generator: Any) -> list[Any]:
    """Find the memory of what makes up the state; none where it is not as expected.

    That is 624 numbers and a position, of a Mersenne twister; and of the object around it, whether
    half of a pair of normal numbers is kept, and which.
    """
    import numpy

    if type(generator) is not numpy.random.MT19937:
        return []
    twister = (ctypes.c_char * 2500).from_address(generator.ctypes.state_address)
    state = generator.state["state"]
    words = struct.unpack("625I", twister.raw)
    kept, pair = _tried(1), _tried(0)
    place = kept.find(struct.pack("d", _MARK)) - 8
    flags = [struct.unpack_from("i", held, place)[0] for held in (kept, pair) if place > 0]
    if [*words] != [*state["key"].tolist(), state["pos"]] or flags != [1, 0]:
        return []
    return [twister, (ctypes.c_char * 16).from_address(id(_around()) + place)]


def _around() -> Any:
    """Give the object whose methods ``numpy.random.normal`` and the like are."""
    import numpy

    method: Any = numpy.random.normal
    return method.__self__


def _tried(kept: int) -> bytes:
    """Give its memory while half of a pair is kept, or is not."""
    import numpy

    before = numpy.random.get_state(legacy=False)
    try:
        numpy.random.set_state({**before, "has_gauss": kept, "gauss": _MARK})
        return ctypes.string_at(id(_around()), _around().__sizeof__())
    finally:
        numpy.random.set_state(before)
