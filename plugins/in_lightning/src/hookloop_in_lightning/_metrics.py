"""Which of Lightning's metrics are new, and by which names they are known: decided without it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: A name that says itself that it is of validation: ``val_loss``, ``val/loss``, ``valid_acc``.
_SAYS_SO = re.compile(r"(^|[^a-z])(val|valid|validation|eval|dev)([^a-z]|$)", re.IGNORECASE)


class Fresh:
    """Tells which metrics were reported since a mark.

    Lightning never empties ``callback_metrics``: a value stays there until another takes its
    place. One that was reported again is another tensor, whatever its value.
    """

    def __init__(self) -> None:
        self._before: dict[str, Any] = {}

    def mark(self, metrics: Mapping[str, Any]) -> None:
        """Remember what is there, by reference: an address could be used again."""
        self._before = dict(metrics)

    def since(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Give what was reported since the mark, without the twins that Lightning makes."""
        return {
            name: value
            for name, value in metrics.items()
            if value is not self._before.get(name) and not _is_twin(name, metrics)
        }


def _is_twin(name: str, metrics: Mapping[str, Any]) -> bool:
    """Tell whether a name is the ``x_step`` or ``x_epoch`` that Lightning reports beside ``x``.

    It does where ``x`` is logged with ``on_step=True, on_epoch=True``; then ``x`` and ``x_epoch``
    are one tensor.
    """
    base, _, last = name.rpartition("_")
    if last not in ("step", "epoch") or base not in metrics:
        return False
    return metrics.get(f"{base}_epoch") is metrics[base]


def of_test(found: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Name for `on_test_end` what a validation or test reported.

    Args:
        found: What was reported, by the names that the module gave.
        prefix: What those begin with that are known without it: ``val_`` or ``test_``.

    Returns:
        For each name the one without prefix, unless that is a name of its own.
    """
    short = {name: name.removeprefix(prefix) for name in found}
    return {name: name if key != name and key in found else key for name, key in short.items()}


def of_epoch(name: str) -> str:
    """Name for `on_epoch_end` what validation reported: with ``val_`` unless it says so itself."""
    return name if _SAYS_SO.search(name) else f"val_{name}"


def is_number(value: Any) -> bool:
    """Tell whether a value of a step's outputs is one that belongs into logs."""
    if isinstance(value, int | float):
        return not isinstance(value, bool)
    return getattr(value, "ndim", None) == 0
