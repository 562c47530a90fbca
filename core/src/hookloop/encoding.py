"""State as JSON, which gives back the same: tuples, keys that are no text, infinities, tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hookloop.errors import StateError
from hookloop.plain import unsavable

if TYPE_CHECKING:
    from torch import Tensor


def encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Turn plain data into JSON that gives back the same: tuples, keys, infinities, tensors."""
    if type(value) in (type(None), bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, list | tuple):
        items = [encode(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        pairs = [(key, encode(item, f"{path}/{key}", tensors)) for key, item in value.items()]
        for key in value:
            if type(key) not in (str, int, float, bool, type(None)):
                message = f"The state holds a {type(key).__name__} as a key at {path}: {key!r}."
                raise StateError(message, fix="use text or numbers as keys")
        plain = all(isinstance(key, str) and not key.startswith("$") for key in value)
        return dict(pairs) if plain else {"$dict": [list(pair) for pair in pairs]}
    if hasattr(value, "numpy"):
        while path in tensors:  # keys with slashes, or 1 beside "1"
            path += "'"
        if str(value.dtype) == "torch.complex128":  # safetensors has none
            pairs = value.detach().resolve_conj().unsqueeze(-1).contiguous()
            tensors[path] = pairs.view(value.real.dtype)
            return {"$complex": path}
        tensors[path] = value
        return {"$tensor": path}
    raise unsavable(value, path)


def decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and (key := next(iter(value))).startswith("$"):
        inner = value[key]
        if key == "$float":
            return float(inner)
        if key == "$tensor":
            return tensors[inner]
        if key == "$complex":
            import torch

            return torch.view_as_complex(tensors[inner])
        if key == "$tuple":
            return tuple(decode(item, tensors) for item in inner)
        return {one: decode(item, tensors) for one, item in inner}
    return {key: decode(item, tensors) for key, item in value.items()}
