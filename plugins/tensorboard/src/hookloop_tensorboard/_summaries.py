"""What an event file holds: numbers, distributions, pictures and text, as TensorBoard's records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

#: Rows and columns of a picture at most; of a larger weight its first ones are shown.
PIXELS = 1024


def numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    """Pick what can be drawn as a curve; reads what is on a device."""
    found = {key: value for key, value in logs.items() if isinstance(value, int | float)}
    return {key: float(value) for key, value in found.items() if key != "size"}


def scalars(values: Mapping[str, float]) -> Any:
    """Make a record of numbers, by tag; TensorBoard keeps them as float32."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=tag, simple_value=v) for tag, v in values.items()])


def histogram(tag: str, values: Tensor) -> Any:
    """Make a record of a distribution, in TensorFlow's buckets; None if there is nothing finite.

    Args:
        tag: Its name.
        values: Floats of any shape and device.
    """
    import numpy
    from torch.utils.tensorboard import summary

    right = 1e-12 * 1.1 ** numpy.arange(774)  # up to 1e20, each 1.1 times the one before
    flat = values.detach().to_dense().double().flatten().cpu()
    flat = flat[flat.abs() <= right[-1]]
    if not len(flat):
        return None
    buckets = [*-right[::-1], 0.0, *right]
    return summary.histogram(tag, flat.numpy(), buckets)  # type: ignore[no-untyped-call]


def picture(tag: str, weight: Tensor) -> Any:
    """Make a record of a weight as a grey picture: its least value black, its greatest white.

    Args:
        tag: Its name.
        weight: Floats. A matrix lies on its longer side; a vector is one row; the kernels of a
            convolution are tiles, a row for each output. None comes of more than 4 dimensions.
    """
    from torch.utils.tensorboard import summary

    grid = weight.detach().double().nan_to_num(0.0, 0.0, 0.0)
    if not 1 <= grid.ndim <= 4 or not grid.numel():
        return None
    if grid.ndim == 4:
        grid = grid.transpose(1, 2).flatten(2).flatten(0, 1)
    grid = grid.reshape(1, -1) if grid.ndim == 1 else grid.flatten(1)
    grid = (grid.T if grid.shape[0] > grid.shape[1] else grid)[:PIXELS, :PIXELS]
    low, high = grid.min(), grid.max()
    grey = ((grid - low) / (high - low).clamp(min=1e-38)).cpu()
    return summary.image(tag, grey, dataformats="HW")  # type: ignore[no-untyped-call]


def text(tag: str, parts: Mapping[str, str]) -> Any:
    """Make a record of text: each part under its heading, as it stands."""
    from torch.utils.tensorboard import summary

    indented = {name: part.replace("\n", "\n    ") for name, part in parts.items()}
    page = "\n\n".join(f"### {name}\n\n    {part}" for name, part in indented.items())
    return summary.text(tag, page)  # type: ignore[no-untyped-call]
