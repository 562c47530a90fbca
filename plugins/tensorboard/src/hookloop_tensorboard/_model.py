"""Looking into a model without leaving a trace: its graph, and what its layers give."""

from __future__ import annotations

import copy
import io
import warnings
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from hookloop import rng
from hookloop.errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor, nn


def twin(model: nn.Module) -> nn.Module:
    """Copy a model in ``eval`` mode: with the same parameters, own buffers, and no hooks."""
    memo: dict[int, Any] = {id(parameter): parameter for parameter in model.parameters()}
    for module in model.modules():
        for name, value in vars(module).items():
            if name.endswith("_hooks") and isinstance(value, dict):
                memo[id(value)] = OrderedDict()
    return copy.deepcopy(model, memo).eval()


def weights_of(model: nn.Module | None) -> dict[str, Tensor]:
    """Give what a model has learnt, by name: its floating-point parameters and buffers."""
    found = [*model.named_parameters(), *model.named_buffers()] if model is not None else []
    return {name: one for name, one in found if one.is_floating_point()}


def graph(model: nn.Module, inputs: Any) -> list[dict[str, Any]]:
    """Trace a model.

    Args:
        model: Left as it is.
        inputs: A batch, as a loop has it: a tensor, or a tuple or mapping of them.

    Returns:
        The fields of the two events that TensorBoard makes a graph of.
    """
    import inspect

    import torch
    from tensorboard.compat.proto.event_pb2 import TaggedRunMetadata
    from torch.utils.tensorboard._pytorch_graph import graph as trace

    if isinstance(inputs, dict):
        inputs = inspect.signature(model.forward).bind(**inputs).args
    arguments = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
    # The tracer prints its error before it raises it, and warns of what is of no interest here.
    with rng.fork(), torch.no_grad(), redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nodes, details = trace(  # type: ignore[no-untyped-call]
            twin(model), arguments, use_strict_trace=False
        )
    tagged = TaggedRunMetadata(tag="step1", run_metadata=details.SerializeToString())
    return [{"graph_def": nodes.SerializeToString()}, {"tagged_run_metadata": tagged}]


def outputs(model: nn.Module, batches: Iterable[Any]) -> dict[str, Tensor]:
    """Run a model, and collect what its layers give.

    Args:
        model: Left as it is.
        batches: Inputs, as a loop has them.

    Returns:
        For each module that has no others in it, by name: float32 tensor on the CPU, of shape
        (samples, features); what gives no tensor is left out.
    """
    import torch

    from hookloop.models import caller

    found: dict[str, list[Tensor]] = {}
    copied = twin(model)

    def keeping(name: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple | list) else output
            if isinstance(first, torch.Tensor):  # copied, as a later layer may work in place
                kept = first.to("cpu", torch.float32, copy=True)
                found.setdefault(name, []).append(kept.reshape(len(kept) if kept.ndim else 1, -1))

        return keep

    for name, module in copied.named_modules():
        if not any(True for _ in module.children()):
            module.register_forward_hook(keeping(name or "model"))
    with rng.fork(), torch.no_grad():
        for batch in batches:
            caller(copied)(batch)
    return {name: torch.cat(parts) for name, parts in found.items()}


class Samples:
    """The first samples of the validation, as inputs of the model.

    Args:
        wanted: How many.
    """

    def __init__(self, wanted: int) -> None:
        self._missing = wanted
        self.batches: list[Any] = []

    def add(self, inputs: Any) -> None:
        """Take what is still missing from a batch; copied, as a batch may be changed in place."""
        from hookloop.structures import as_tensor, leaves, map_structure

        if self._missing > 0:
            taken = map_structure(inputs, lambda leaf: as_tensor(leaf)[: self._missing].clone())
            self.batches.append(taken)
            self._missing -= len(next(leaves(taken)))

    def add_arrays(self, data: Any, device: Any) -> None:
        """Take samples from validation data of a loop that does not show its batches.

        Raises:
            SettingError: If the data are no arrays: reading others would change their order.
        """
        from hookloop.structures import is_arrays, to_device

        if data is None or not is_arrays(data):
            message = "tensorboard: histogram_freq needs validation data that are arrays here."
            raise SettingError(message, fix="pass validation_data=(x, y), or histogram_freq=0")
        self.add(data[0] if isinstance(data, tuple) else data)
        self.batches = to_device(self.batches, device)
