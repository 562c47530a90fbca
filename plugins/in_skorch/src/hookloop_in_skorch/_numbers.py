"""What skorch knows of an epoch and of its data, in hookloop's words. Knows nothing of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from skorch.dataset import get_len

#: Columns of a row of skorch's history that are no measurements, or that hookloop measures itself.
_OTHERS = ("batches", "epoch", "dur", "train_loss", "valid_loss")
_FLAGS = ("_best", "_batch_count")


def measurements(row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Find the metrics in a row of skorch's history, apart for training and validation.

    Args:
        row: Of the epoch that has just ended, as far as it is filled.

    Returns:
        Those of training, without ``train_``, and what has neither prefix; those of validation,
        without ``valid_``.
    """
    training, validation = {}, {}
    for key, value in row.items():
        if key in _OTHERS or key.endswith(_FLAGS) or key.startswith("event_"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if key.startswith("valid_"):
            validation[key.removeprefix("valid_")] = value
        else:
            training[key.removeprefix("train_")] = value
    return training, validation


def scores(row: Mapping[str, Any]) -> dict[str, Any]:
    """Find the scores of one batch in its row of skorch's history."""
    training, validation = measurements(row)
    return {key: value for key, value in (training | validation).items() if key != "batch_size"}


def directions(callbacks: Iterable[Any]) -> dict[str, Any]:
    """Tell by name which way is better, of the scores that skorch's own callbacks compute."""
    found = {}
    for callback in callbacks:
        lower, name = getattr(callback, "lower_is_better", None), getattr(callback, "name_", None)
        if isinstance(lower, bool) and isinstance(name, str):
            key = name.removeprefix("valid_").removeprefix("train_")
            found[key] = SimpleNamespace(higher_is_better=not lower)
    return found


def size(inputs: Any) -> int:
    """Count the samples of a batch, as skorch does, but sooner where the inputs are a tensor."""
    return inputs.shape[0] if type(inputs) is torch.Tensor else int(get_len(inputs))


def length(data: Any) -> int | None:
    """Count samples, where they can be counted."""
    try:
        return len(data)
    except TypeError:
        return None


def batches(samples: int | None, batch_size: Any, *, drop_last: bool) -> int | None:
    """Count the batches of an epoch; None where it cannot be told."""
    if samples is None or not isinstance(batch_size, int):
        return None
    if batch_size < 1:  # skorch's -1: all in one
        return 1
    return samples // batch_size if drop_last else math.ceil(samples / batch_size)
