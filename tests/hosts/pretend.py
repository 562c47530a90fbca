"""A device that is not there: tensors that are on it as far as anybody can tell, and count reads.

They say that they are on ``meta``, which torch has everywhere; what they hold is on the CPU, where
every operation is carried out. What would make the program wait for a real accelerator is noted:
a number that is read, and a copy to the CPU that does not say ``non_blocking``.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("meta")
_WAITING = ("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "_unique2")


class Pretended(Tensor):
    """A tensor on the device that is not there.

    Attributes:
        held: What it is in truth.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Pretended:
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), dtype=held.dtype, device=DEVICE,
            requires_grad=held.requires_grad,
        )  # fmt: skip
        made.held = held.detach()
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carry_out(func, args, kwargs or {})  # in a thread, where no mode is in force


class Device(TorchDispatchMode):
    """Carries out what is done with tensors on the device that is not there.

    Attributes:
        reads: Where this thread would have waited: the innermost lines outside of torch.
        copies: How many copies to the CPU were asked for without waiting.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if is_copy_to_cpu(func, args, kwargs) and kwargs.get("non_blocking"):
            self.copies += 1
        elif is_read(func, args, kwargs):
            stack = [one for one in traceback.extract_stack() if "/torch/" not in one.filename]
            line = [one for one in stack if one.filename != __file__][-1]
            self.reads.append(f"{Path(line.filename).parent.name}: {line.line}")
        return carry_out(func, args, kwargs)


def is_read(func: Any, args: Any, kwargs: Any) -> bool:
    """Tell whether an operation would wait for the device."""
    name = func._schema.name.removeprefix("aten::")
    out = name == "copy_" and is_there(args[1]) and not is_there(args[0])
    return out or (name in _WAITING and is_there(args)) or is_copy_to_cpu(func, args, kwargs)


def is_copy_to_cpu(func: Any, args: Any, kwargs: Any) -> bool:
    return is_there(args) and torch.device(kwargs.get("device") or DEVICE).type == "cpu"


def is_there(value: Any) -> bool:
    return any(isinstance(one, Pretended) for one in tree_leaves(value))


def carry_out(func: Any, args: Any, kwargs: Any) -> Any:
    """Do with what the tensors hold what was asked for, and pretend again of the result."""
    to = kwargs.get("device")
    stays = torch.device(to) == DEVICE if to is not None else is_there(args)
    args_held, kwargs_held = tree_map_only(Pretended, lambda one: one.held, (args, kwargs))
    found = func(*args_held, **{**kwargs_held, **({"device": "cpu"} if to is not None else {})})
    returned = func._schema.returns
    if returned and returned[0].alias_info is not None and returned[0].alias_info.is_write:
        return args[0]  # changed in place
    return tree_map_only(Tensor, Pretended, found) if stays else found
