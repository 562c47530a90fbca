"""The states of all random generators, as plain data."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any


def capture() -> dict[str, Any]:
    """Take the states of Python's, NumPy's and torch's generators, CUDA's included, as plain data.

    Returns:
        ``python``: list of ints; ``numpy``: list with an int64 tensor of shape (624,), or what
        another bit generator than NumPy's own says of itself; ``torch``: uint8 tensor; ``cuda``:
        list of uint8 tensors, one a device.
    """
    import numpy
    import torch

    version, internal, gauss = random.getstate()
    return {
        "python": [version, list(internal), gauss],
        "numpy": _of_numpy(numpy.random.get_state(legacy=False)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if cuda_in_use() else [],
    }


def _of_numpy(state: Mapping[str, Any]) -> Any:
    if state["bit_generator"] != "MT19937":
        return _listed(state)
    import torch

    keys = torch.from_numpy(state["state"]["key"].astype("int64"))
    at, has_gauss, cached = state["state"]["pos"], state["has_gauss"], state["gauss"]
    return ["MT19937", keys, int(at), int(has_gauss), float(cached)]


def _listed(value: Any) -> Any:
    """Make plain data of what NumPy says of a bit generator: numbers, and arrays of them."""
    if isinstance(value, Mapping):
        return {key: _listed(one) for key, one in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value


def restore(state: Mapping[str, Any]) -> None:
    """Put back what `capture` took."""
    import numpy
    import torch

    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    numpy.random.set_state(numpy_state(state["numpy"]))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


def numpy_state(saved: Any) -> Any:
    """Give NumPy's part of what `capture` took as NumPy takes it."""
    if isinstance(saved, Mapping):
        return saved
    name, keys, position, has_gauss, cached = saved
    return (name, keys.numpy().astype("uint32"), position, has_gauss, cached)


def cuda_in_use() -> bool:
    """Tell whether there is a CUDA device that has been used."""
    import torch

    return torch.cuda.is_available() and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
