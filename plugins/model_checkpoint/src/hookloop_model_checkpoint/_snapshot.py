"""A copy of a state that training cannot change while it is being written."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from hookloop.errors import StateError


class Snapshot:
    """Copies plain data and tensors to the CPU, from the second time on into the same memory.

    Fresh memory costs more than the copying itself (every page of it is a page fault), so the
    memory of the last copy is used again wherever a tensor of the same shape comes. Hence a copy
    must have been written before the next one is made.

    Args:
        own: Whether tensors get memory of their own. Without, those on the CPU stay as they are:
            enough for whoever writes them before training goes on.
    """

    def __init__(self, *, own: bool) -> None:
        self._own = own
        self._kept: dict[str, Tensor] = {}
        self._taken: dict[str, Tensor] = {}
        self._shared: dict[Any, Tensor] = {}

    def copy(self, state: Any) -> Any:
        """Copy a state.

        Args:
            state: Numbers, text, None, lists, tuples, dicts, and tensors of any device.

        Raises:
            StateError: If it holds anything else, with the place of it: such a file could not be
                loaded again.
        """
        self._taken, self._shared = {}, {}
        try:
            copied = self._copy(state, "state")
            self._kept = self._taken
        finally:
            self._taken, self._shared = {}, {}
        return copied

    def _copy(self, value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value.detach(), path)
        if type(value) in (dict, OrderedDict):
            copied = type(value)((key, self._copy(v, f"{path}/{key}")) for key, v in value.items())
            if hasattr(value, "_metadata"):  # the versions of a module's parts
                copied._metadata = value._metadata
            return copied
        if type(value) in (list, tuple):
            return type(value)(self._copy(v, f"{path}/{i}") for i, v in enumerate(value))
        if type(value) in (type(None), bool, int, float, str, bytes):
            return value
        for plain in (int, float, str):  # subclasses, such as numpy.float64, lose nothing
            if isinstance(value, plain):
                return plain(value)
        message = f"The state holds a {type(value).__name__} at {path}."
        raise StateError(message, fix="keep numbers, text, None, lists, dicts and tensors in it")

    def _tensor(self, value: Tensor, path: str) -> Tensor:
        if not self._own:
            return value.cpu()
        if type(value) is not Tensor or value.layout is not torch.strided:
            return value.to("cpu", copy=True)
        key = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.numel() and key in self._shared:  # tied weights stay tied, and are written once
            return self._shared[key]
        kept = self._kept.get(path)
        if kept is not None and kept.shape == value.shape and kept.dtype == value.dtype:
            kept.copy_(value)
        else:
            kept = value.to("cpu", copy=True)
        self._taken[path] = self._shared[key] = kept
        return kept
