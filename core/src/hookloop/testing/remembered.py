"""What a callback remembers on itself, so that it shows whether a restart loses any of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy
import torch

from hookloop.callback import Callback, constructor
from hookloop.monitor import Monitor
from hookloop.testing.runs import same

#: What no restart has to bring back: the host gives it anew.
_GIVEN = frozenset(Callback.__annotations__)
#: How deep objects of its own are looked into; enough for a state in a helper of a helper.
_DEPTH = 3


class _Skipped:
    """Stands for what is no plain data, as a file or a thread is."""


def remembered(callback: Any) -> dict[str, Any]:
    """Read the plain data and tensors in a callback's attributes, settings aside.

    Objects of classes from its own package, and every `Monitor`, are looked into, as state is
    often kept in one.
    """
    aside = _GIVEN | set(constructor(type(callback)).parameters)
    own = {name: value for name, value in vars(callback).items() if name not in aside}
    root = type(callback).__module__.partition(".")[0]
    return _entries({name: one for name, one in own.items() if name != "_settings"}, root, _DEPTH)


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Name the attributes that are in both, but not the same."""
    return [name for name in one if name in other and not same(one[name], other[name])]


def _entries(items: Mapping[Any, Any], root: str, depth: int) -> dict[Any, Any]:
    plain = {name: value for name, value in items.items() if isinstance(name, str | int)}
    read = {name: _read(value, root, depth) for name, value in plain.items()}
    return {name: value for name, value in read.items() if value is not _Skipped}


def _read(value: Any, root: str, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, numpy.generic | numpy.ndarray):
        return value.tolist()
    if isinstance(value, Monitor):
        return value.state_dict()
    if depth == 0:
        return _Skipped
    if isinstance(value, Mapping):
        return _entries(value, root, depth - 1)
    if isinstance(value, list | tuple | deque):
        return [_read(item, root, depth - 1) for item in value]
    if type(value).__module__.partition(".")[0] == root and hasattr(value, "__dict__"):
        return _entries(vars(value), root, depth - 1)
    return _Skipped
