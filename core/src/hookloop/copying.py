"""A copy of a state, to be written while training goes on."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from hookloop.plain import only_numbers, unsavable

if TYPE_CHECKING:
    from torch import Tensor


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
        self._under_way: set[Any] = set()

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
            _arrived(self._under_way)
            self._taken, self._shared, self._under_way = {}, {}, set()
        return copied

    def _copy(self, value: Any, path: str) -> Any:
        if hasattr(value, "detach"):
            return self._tensor(value.detach(), path)
        if type(value) in (dict, OrderedDict):
            copied = type(value)((key, self._copy(v, f"{path}/{key}")) for key, v in value.items())
            if hasattr(value, "_metadata"):  # the versions of a module's parts
                copied._metadata = value._metadata
            return copied
        if type(value) in (list, tuple):
            if only_numbers(value):
                return value[:]
            return type(value)(self._copy(v, f"{path}/{i}") for i, v in enumerate(value))
        if type(value) in (type(None), bool, int, float, str, bytes):
            return value
        for plain in (int, float, str):  # subclasses, such as numpy.float64, lose nothing
            if isinstance(value, plain):
                return plain(value)
        raise unsavable(value, path)

    def _tensor(self, value: Tensor, path: str) -> Tensor:
        import torch

        if not self._own:
            return value.cpu()
        if type(value) is not torch.Tensor or value.layout is not torch.strided:
            return value.to("cpu", copy=True)
        key = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.numel() and key in self._shared:  # tied weights stay tied, and are written once
            return self._shared[key]
        kept = self._kept.get(path)
        if kept is None or kept.shape != value.shape or kept.dtype != value.dtype:
            kept = _memory_for(value)
        if _is_on_cuda(value):
            kept.copy_(value, non_blocking=True)
            self._under_way.add(value.device)
        else:
            kept.copy_(value)
        self._taken[path] = self._shared[key] = kept
        return kept


def _is_on_cuda(value: Tensor) -> bool:
    return value.is_cuda


def _memory_for(value: Tensor) -> Tensor:
    """Make room for a copy; for one from CUDA where the device itself can write: pinned."""
    import torch

    return torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)


def _arrived(devices: set[Any]) -> None:
    """Wait for the copies that are under way, once for all of them."""
    import torch

    for device in devices:
        torch.cuda.current_stream(device).synchronize()
