"""Models: calling them, and finding the module inside a wrapper."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hookloop.errors import ArgumentError
from hookloop.registry import where
from hookloop.structures import described, is_array


def best_device(device: str | torch.device, model: nn.Module) -> torch.device:
    """Choose where to train.

    Args:
        device: ``"auto"``: where the model is, if that is no CPU; else CUDA, then MPS, then CPU.
        model: The model.

    Raises:
        ArgumentError: If torch does not have that device here.
    """
    if device != "auto":
        try:
            return torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            message = f"device={str(device)!r} is not to be had here: {error}"
            raise ArgumentError(message, fix='device="auto", or one that this torch has') from None
    own = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if own.type != "cpu":
        return own
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def unwrapped(model: nn.Module) -> nn.Module:
    """Find the user's module in what ``torch.compile`` and the parallel wrappers put around it."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(
            model, nn.DataParallel | nn.parallel.DistributedDataParallel
        ):
            inner = model.module
        if inner is None:
            return model
        model = inner


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a model into ``train`` or ``eval`` mode, and afterwards every module back as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.train() if training else model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def takes_all(model: nn.Module, data: Any) -> bool:
    """Tell whether data are a tuple of arrays, each of which the model takes as an argument."""
    if not (isinstance(data, tuple) and all(map(is_array, data))):
        return False
    try:
        inspect.signature(model.forward).bind(*data)
    except (TypeError, ValueError):  # not so many, or of a signature that nobody knows
        return False
    return True


def explain(error: Exception, part: str, loop: Any, **data: Any) -> None:
    """Note where in a step an error comes from, and of what kind the data were; no values."""
    told = "; ".join(f"{name}: {described(value)}" for name, value in data.items())
    error.add_note(f"raised in {part}{where(loop)}; {told}")


def caller(model: Callable[..., Any]) -> Callable[[Any], Any]:
    """Give a function that calls a model with the inputs of a batch.

    A tuple or list of inputs becomes positional arguments, a mapping keyword arguments.
    """

    def call(inputs: Any) -> Any:
        if type(inputs) is Tensor:
            return model(inputs)
        if isinstance(inputs, Mapping):
            return model(**inputs)
        if isinstance(inputs, list | tuple):
            return model(*inputs)
        return model(inputs)

    return call
