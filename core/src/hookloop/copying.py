"""A copy of a state, to be written while training goes on."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from hookloop.errors import StateError
from hookloop.plain import PLAIN, find_unsavable, only_numbers, unsavable

if TYPE_CHECKING:
    from torch import Tensor

_COPIED_AS_IT_IS = PLAIN | {bytes}


class _UnsavableError(Exception):
    """Says that a value can be in no file; where it is, is looked for only then."""

    def __init__(self, value: Any) -> None:
        self.value = value


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
        self._kept: dict[Any, list[Tensor]] = {}
        self._taken: dict[Any, list[Tensor]] = {}
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
            copied = self._whole(state)
            self._kept = self._taken
        except StateError:
            raise
        except (NotImplementedError, TypeError, ValueError, RecursionError) as error:
            fix = "keep numbers, text, lists, dicts and tensors with values in it, and no cycles"
            raise StateError(f"The state cannot be copied: {error}.", fix=fix) from error
        finally:
            _arrived(self._under_way)
            self._taken, self._shared, self._under_way = {}, {}, set()
        return copied

    def _whole(self, state: Any) -> Any:
        try:
            return self._copy(state)
        except _UnsavableError as error:
            found = {id(value): path for path, value in find_unsavable(state, "state")}
            raise unsavable(error.value, found.get(id(error.value), "state")) from None

    def _copy(self, value: Any) -> Any:
        kind = type(value)
        if kind in _COPIED_AS_IT_IS:
            return value
        if kind is dict or kind is OrderedDict:
            if not PLAIN.issuperset(map(type, value)):
                raise _UnsavableError(next(key for key in value if type(key) not in PLAIN))
            copied: Any = kind((key, self._copy(inner)) for key, inner in value.items())
            if hasattr(value, "_metadata"):  # the versions of a module's parts
                copied._metadata = value._metadata
            return copied
        if kind is list or kind is tuple:
            return value[:] if only_numbers(value) else kind(map(self._copy, value))
        if hasattr(value, "detach"):
            return self._tensor(value.detach())
        for plain in (int, float, str):  # subclasses, such as numpy.float64, lose nothing
            if isinstance(value, plain):
                return plain(value)
        raise _UnsavableError(value)

    def _tensor(self, value: Tensor) -> Tensor:
        import torch

        if not self._own:
            return value.cpu()
        plain = type(value) is torch.Tensor and value.layout is torch.strided
        if not plain or value.is_nested or value.is_quantized or value.is_conj() or value.is_neg():
            return value.to("cpu", copy=True)
        key = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.numel() and key in self._shared:  # tied weights stay tied, and are written once
            return self._shared[key]
        like = (value.device.type, value.dtype, value.shape, value.stride())
        kept = self._kept.get(like)
        room = kept.pop(0) if kept else _memory_for(value)
        if _is_on_cuda(value):
            room.copy_(value, non_blocking=True)
            self._under_way.add(value.device)
        else:
            room.copy_(value)
        self._taken.setdefault(like, []).append(room)
        self._shared[key] = room
        return room


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
