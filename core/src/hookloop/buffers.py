"""Buffers that are not persistent, and so not in a ``state_dict``, but change in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hookloop.soundness import is_dense, need

if TYPE_CHECKING:
    from torch import Tensor

#: Each by name, with how often it was changed in place.
Noted = dict[str, "tuple[Tensor, int]"]


def of(model: Any) -> Noted:
    """Note the buffers that are not persistent, as they are now."""
    found = ((name, module._buffers.get(key)) for name, module, key in _places(model))
    return {name: (one, _version(one)) for name, one in found if one is not None}


def _places(model: Any) -> Iterator[tuple[str, Any, str]]:
    """Name every buffer that is not persistent, with its module and its name there."""
    for path, module in model.named_modules() if hasattr(model, "named_modules") else ():
        for key in getattr(module, "_non_persistent_buffers_set", ()):
            yield f"{path}.{key}".lstrip("."), module, key


def _version(tensor: Any) -> int:
    return 0 if tensor.is_inference() else int(tensor._version)


def changed(before: Noted, model: Any) -> dict[str, Tensor]:
    """Give those that were changed or replaced since they were noted: most are constants."""
    return {
        name: value
        for name, (value, version) in of(model).items()
        if name not in before or before[name][0] is not value or before[name][1] != version
    }


def check(saved: Any) -> None:
    """Refuse what `changed` cannot have given; a state of an earlier hookloop has none."""
    sound = isinstance(saved, Mapping)
    sound = sound and all(hasattr(one, "layout") and is_dense(one) for one in saved.values())
    need(sound, "what it has of buffers are no tensors")


def put_back(model: Any, saved: Mapping[str, Tensor], device: Any) -> None:
    """Give a model those buffers that a state has.

    Args:
        model: The model.
        saved: What `changed` gave.
        device: Where to, if the model has not made the buffer yet.
    """
    for name, module, key in _places(model):
        if name in saved:
            own = module._buffers.get(key)
            module._buffers[key] = saved[name].to(device if own is None else own.device, copy=True)
