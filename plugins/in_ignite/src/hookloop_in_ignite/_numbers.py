"""What Ignite's engines report, in hookloop's words. Knows nothing of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hookloop.structures import size_of


class Fresh:
    """Tells the metrics that were computed since a moment from those that are left from before.

    ``engine.state.metrics`` is never emptied. A metric that was computed again is another object.

    Args:
        engine: Whose metrics.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.begin()

    def begin(self) -> None:
        """Take what is there for old."""
        self._before: dict[str, Any] = dict(self._engine.state.metrics)

    def metrics(self) -> dict[str, Any]:
        """Give what is new, as flat names with numbers, lists or 0-d tensors."""
        new = {
            name: value
            for name, value in self._engine.state.metrics.items()
            if name not in self._before or value is not self._before[name]
        }
        return flat(new)


def flat(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Make one level of names: ``{"f1": {"cat": 0.5}}`` becomes ``f1_cat``.

    Ignite reports the parts of a metric that is a mapping under their own names, too; then the
    mapping says nothing new.
    """
    found: dict[str, Any] = {}
    for name, value in metrics.items():
        if not isinstance(value, Mapping):
            found[str(name)] = _plain(value)
        elif not all(key in metrics for key in value):
            found |= flat({f"{name}_{key}": one for key, one in value.items()})
    return found


def _plain(value: Any) -> Any:
    several = getattr(value, "ndim", 0) and hasattr(value, "tolist")
    return value.tolist() if several else value


def reported(output: Any, transform: Callable[[Any], Any] | None) -> dict[str, Any]:
    """Find the numbers of a batch in what the trainer's function returned.

    Args:
        output: A number or 0-d tensor is the loss; a mapping has numbers by name.
        transform: Makes one of these two of something else.
    """
    value = output if transform is None else transform(output)
    if isinstance(value, Mapping):
        return {str(name): one for name, one in value.items() if _is_number(one)}
    return {"loss": value} if _is_number(value) else {}


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return False
    return isinstance(value, int | float) or getattr(value, "ndim", None) == 0


def apart(batch: Any) -> tuple[Any, Any]:
    """Take inputs and targets of a batch apart, where it is a pair."""
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    return batch, None


def size(inputs: Any) -> dict[str, int]:
    """Give the size of a batch, for its logs; nothing where the trainer has no data."""
    return {} if inputs is None else {"size": size_of(inputs)}


def known(state: Any, *, validates: bool) -> dict[str, Any]:
    """Fill the parameters of the run with what the trainer's state knows."""
    loader = state.dataloader
    try:
        samples = len(loader.dataset)
    except (AttributeError, TypeError):
        samples = None
    return {
        "epochs": state.max_epochs,
        "steps": state.epoch_length,
        "batch_size": getattr(loader, "batch_size", None),
        "samples": samples,
        "do_validation": validates,
    }
