"""Buffers that are not persistent, and so not in a ``state_dict``, but change in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hookloop.errors import listed

if TYPE_CHECKING:
    from torch import Tensor

#: Each by name, with how often it was changed in place.
Noted = dict[str, "tuple[Tensor, int]"]


def noted(model: Any) -> Noted:
    """Note the buffers that are not persistent, as they are now."""
    return {
        f"{path}.{key}".lstrip("."): (one, 0 if one.is_inference() else one._version)
        for path, module in (model.named_modules() if hasattr(model, "named_modules") else ())
        for key, one in module._buffers.items()
        if one is not None and key in module._non_persistent_buffers_set
    }


def changed(before: Noted, model: Any) -> str | None:
    """Say which of them were changed, in place or by others of their shape: no state has them.

    Most never do: they are masks and tables, which the model makes itself, some of them late or
    anew for a longer input. What goes by torch's count of changes, ``.data`` for one, is not seen.
    """
    now = noted(model)
    found = [
        name
        for name, (value, version) in before.items()
        if name in now and now[name][0].shape == value.shape
        if now[name][0] is not value or now[name][1] != version
    ]
    if not found:
        return None
    return (
        f"Buffers that are not persistent change in training, and are in no saved state: "
        f"{listed(found[:4])}. A run that goes on begins with those of a new model.\n"
        "fix: register_buffer(..., persistent=True), unless they do not matter"
    )
