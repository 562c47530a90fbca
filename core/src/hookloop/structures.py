"""Structures: nested tuples, lists and mappings of tensors and arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from hookloop.errors import DataError


def is_arrays(data: Any) -> bool:
    """Tell whether data are arrays in memory: arrays, or tuples and mappings of them."""
    if isinstance(data, Mapping):
        return bool(data) and all(is_arrays(one) for one in data.values())
    if isinstance(data, tuple):  # a list is one of batches, but for one inside: several inputs
        parts = [part for one in data for part in (one if isinstance(one, list) else [one])]
        return bool(parts) and all(is_arrays(one) for one in parts)
    return is_array(data)


def are_numbers(data: Any) -> bool:
    """Tell whether data are lists of plain numbers, however deep."""
    return isinstance(data, list) and isinstance(next(leaves(data), None), int | float)


def is_array(value: Any) -> bool:
    """Tell whether a value is an array or tensor of one dimension at least."""
    return (isinstance(value, Tensor) or hasattr(value, "__array__")) and getattr(
        value, "ndim", 0
    ) > 0


def as_tensor(value: Any) -> Tensor:
    """Make a tensor of an array; NumPy's float64 becomes torch's default type, as in Keras."""
    if isinstance(value, Tensor):
        return value
    array = numpy.asarray(value)
    if array.dtype.kind not in "biufc":
        message = f"An array holds {array.dtype}, which no tensor can."
        raise DataError(message, fix="convert it to numbers first")
    array = numpy.ascontiguousarray(array, array.dtype.newbyteorder("="))
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor


def map_structure(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to every leaf of nested tuples, lists and mappings."""
    if isinstance(value, Mapping):
        return {key: map_structure(one, function) for key, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_structure(one, function) for one in value))
    if isinstance(value, list | tuple):
        return type(value)(map_structure(one, function) for one in value)
    return function(value)


def leaves(value: Any) -> Iterator[Any]:
    """Give the leaves of nested tuples, lists and mappings."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from leaves(one)
    else:
        yield value


def to_device(value: Any, device: torch.device) -> Any:
    """Move tensors and arrays of a structure to a device, without waiting; leave the rest."""
    kind = type(value)
    if kind is Tensor:
        return value if value.device == device else value.to(device, non_blocking=True)
    if kind is tuple and len(value) == 2:  # the usual batch, for speed
        return to_device(value[0], device), to_device(value[1], device)
    if isinstance(value, numpy.ndarray):
        return as_tensor(value).to(device, non_blocking=True)
    if isinstance(value, Mapping | list | tuple):
        return map_structure(value, lambda leaf: to_device(leaf, device))
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value


def size_of(inputs: Any) -> int:
    """Count the samples of a batch: first dimension of its first array, 1 if it has none."""
    if type(inputs) is Tensor:
        return inputs.size(0) if inputs.ndim else 1
    first: Any = next(leaves(inputs), None)
    return len(first) if is_array(first) else 1


def described(value: Any) -> str:
    """Tell of a structure what its tensors are, and never a value: ``float32 (32, 4)``."""
    if isinstance(value, Tensor | numpy.ndarray):
        shape = ", ".join(map(str, value.shape)) + ("," if value.ndim == 1 else "")
        return f"{str(value.dtype).removeprefix('torch.')} ({shape})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {described(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(described, value))}]"
    return type(value).__name__


def split(data: Any, share: float) -> tuple[Any, Any]:
    """Split the last share of arrays off for validation, as Keras does, before any shuffling.

    Raises:
        DataError: If the data are not arrays, or a part would be empty.
    """
    if isinstance(data, TensorDataset):
        data = data.tensors
    if not (is_arrays(data) and isinstance(data, tuple) and len(data) == 2):
        message = (
            f"validation_split needs (x, y) as arrays or tensors, not a {type(data).__name__}."
        )
        raise DataError(message, fix="pass validation_data= instead")
    data = map_structure(data, as_tensor)
    samples = len(next(leaves(data)))
    cut = samples - int(samples * share)
    if not 0 < cut < samples:
        message = f"validation_split={share} of {samples} samples leaves one part empty."
        raise DataError(message, fix="choose another share, or pass validation_data=")
    return map_structure(data, lambda a: a[:cut]), map_structure(data, lambda a: a[cut:])
