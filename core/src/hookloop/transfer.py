"""Getting batches onto the device while it works on those that it was given before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hookloop.structures import leaves, to_device


class Transfer:
    """Moves batches to a device; to a CUDA device by a stream of its own.

    No batch is drawn ahead of its turn. The loop never waits for the device, so it draws a batch
    while the device is busy with earlier ones, and the copy goes on beside their computing. And
    what was drawn of a loader is what was trained on, as a saved state has to say.

    Args:
        device: Where to.

    Attributes:
        pins: Whether batches should lie in pinned memory, from which the device reads by itself.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.pins = device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(device) if self.pins else None  # type: ignore[no-untyped-call]

    def __call__(self, batch: Any) -> Any:
        """Give a batch, on the device, to what is put into its current stream from now on."""
        if self._stream is None or not all(map(_is_on_the_cpu, leaves(batch))):
            return to_device(batch, self._device)
        with torch.cuda.stream(self._stream):
            moved = to_device(batch, self._device)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)  # the device waits, not this thread
        for leaf in leaves(moved):
            if isinstance(leaf, Tensor):
                leaf.record_stream(current)  # or its memory is used again when the copy is done
        return moved

    def pick(self, values: Tensor, rows: Tensor) -> Tensor:
        """Copy some rows of a tensor; what is done to the copy leaves the tensor alone.

        Args:
            values: Tensor of shape (samples, ...).
            rows: int64 tensor of shape (n,).

        Returns:
            Tensor of shape (n, ...), same type; pinned if it is to go from the CPU to CUDA.
        """
        rows = rows.to(values.device)
        if not (self.pins and _is_on_the_cpu(values)):
            return values.index_select(0, rows)
        room = _pinned((len(rows), *values.shape[1:]), values.dtype)
        return torch.index_select(values.detach(), 0, rows, out=room)


def _is_on_the_cpu(value: Any) -> bool:
    return not isinstance(value, Tensor) or value.device.type == "cpu"


def _pinned(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Make room that the device can read; torch keeps it from new use until copies are done."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)
