"""How much a saved file may make its reader do: refused is what no state of ours comes near."""

from __future__ import annotations

from typing import Any

from hookloop.plain import PLAIN, only_numbers

#: Bytes beside the tensors that a file may have: lists, numbers and names, of every kind of file.
#: A state of 400,000 tensors stays below; what is above is refused before it is parsed.
LONGEST_JSON, LONGEST_HEADER, LONGEST_PICKLE = 2**26, 50_000_000, 2**27
_DEEPEST = 100


def header_length(head: bytes, size: int) -> int:
    """Read how long the header of safetensors is, and refuse what cannot be, before it is read."""
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > min(size - 8, LONGEST_HEADER):
        raise ValueError(f"its header is said to have {length} of {size} bytes")
    return length


def weigh(value: Any, largest: float, depth: int = 0, known: dict[int, int] | None = None) -> int:
    """Estimate the bytes of a state beside its tensors, and refuse one without end or bound.

    Pickle can refer to one list many times, so that a short file holds what no loop gets through.

    Args:
        value: The state, or a part of it.
        largest: Bytes that a tensor may have: one can be said to be larger than its file.
        depth: How deep the part lies.
        known: The weight of what was seen already, by id.
    """
    if isinstance(value, dict):
        parts: Any = [*value, *value.values()]
    elif isinstance(value, list | tuple):
        parts = value
    elif hasattr(value, "detach"):
        if value.numel() * value.element_size() > largest:
            raise ValueError("a tensor is said to be larger than the file")
        return 200
    else:
        return 16 + 4 * len(value) if isinstance(value, str | bytes) else 16
    if depth > _DEEPEST:
        raise ValueError(f"it is nested deeper than {_DEEPEST} levels")
    known = {} if known is None else known
    if id(value) not in known:
        weight = 16 + 16 * len(parts)
        for part in () if only_numbers(parts) else parts:
            if type(part) is str:  # most of them, without a call for each
                weight += 4 * len(part)
            elif type(part) not in PLAIN:
                weight += weigh(part, largest, depth + 1, known) - 16
        known[id(value)] = weight
    if not depth and known[id(value)] > LONGEST_PICKLE:
        raise ValueError(f"it holds more than {LONGEST_PICKLE:,} bytes beside its tensors")
    return known[id(value)]
