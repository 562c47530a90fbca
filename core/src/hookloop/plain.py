"""Plain data and tensors: all that a state may hold, so that loading it runs no code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from hookloop.errors import StateError

_COUNTER = "collections.Counter"
_NUMBERS = frozenset({type(None), bool, int, float})
#: What is saved as it is, by its exact type.
PLAIN = _NUMBERS | {str}


def unsavable(value: Any, path: str, what: str = "The state") -> StateError:
    """Make the error for what is neither plain data nor a tensor: it could not be loaded again.

    Args:
        value: What was found.
        path: Where in the state.
        what: Whose state it is.
    """
    message = f"{what} holds a {type(value).__name__} at {path}."
    return StateError(message, fix="keep numbers, text, None, lists, dicts and tensors in it")


def find_unsavable(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Find what is neither plain data nor a tensor, with the path to it."""
    if type(value) in PLAIN:
        return
    if type(value) in (list, tuple):
        for index, item in enumerate(value):
            yield from find_unsavable(item, f"{path}[{index}]")
    elif isinstance(value, dict) and type(value).__name__ in ("dict", "OrderedDict"):
        for key, item in value.items():
            if type(key) not in (str, int):
                yield f"{path}[{key!r}] (a key)", key
            yield from find_unsavable(item, f"{path}[{key!r}]")
    elif not _is_tensor(value):
        yield path, value


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def only_numbers(values: list[Any] | tuple[Any, ...]) -> bool:
    """Tell whether there is nothing but numbers, as in a long history: a call for each is dear."""
    return _NUMBERS.issuperset(map(type, values))


def bytes_of(value: Any) -> int:
    """Give the bytes of all tensors in a state: nearly what a file of it has."""
    if type(value) in PLAIN:
        return 0
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return 0 if only_numbers(value) else sum(map(bytes_of, value))
    try:
        return int(value.numel() * value.element_size())
    except (AttributeError, RuntimeError, ValueError):  # no tensor, or one without a shape yet
        return 0


def made_plain(value: Any) -> Any:
    """Copy the state of a scheduler of torch as plain data; `restored` is the way back."""
    if isinstance(value, Counter):  # MultiStepLR's milestones
        return {_COUNTER: dict(value)}
    if isinstance(value, Mapping):
        return {key: made_plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(made_plain(item) for item in value)
    if isinstance(value, float):  # of NumPy, too
        return float(value)
    return value


def restored(value: Any) -> Any:
    """Make of what `made_plain` gave what it was made from."""
    if isinstance(value, Mapping):
        if set(value) == {_COUNTER}:
            return Counter(value[_COUNTER])
        return {key: restored(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(restored(item) for item in value)
    return value
