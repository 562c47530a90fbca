"""Metrics that are made of metrics, saved in the middle of an epoch and put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchmetrics

from hookloop.fitting import _load_metric_state, _metric_state

BATCHES = [(torch.arange(4.0) * k, torch.ones(4)) for k in range(5)]
MAKERS: dict[str, Callable[[], Any]] = {
    "one": torchmetrics.MeanSquaredError,
    "sum": lambda: torchmetrics.MeanSquaredError() + torchmetrics.MeanAbsoluteError(),
    "least and most": lambda: torchmetrics.MinMaxMetric(torchmetrics.MeanSquaredError()),
    "collection": lambda: torchmetrics.MetricCollection(
        [torchmetrics.MeanSquaredError(), torchmetrics.MeanAbsoluteError()]
    ),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))
def test_a_metric_goes_on_where_its_state_was_taken(make: Callable[[], Any]) -> None:
    """It gives what the undisturbed one gives."""
    whole, first, second = make(), make(), make()
    for outputs, targets in BATCHES:
        whole.update(outputs, targets)
    for outputs, targets in BATCHES[:3]:
        first.update(outputs, targets)
    _load_metric_state(second, _metric_state(first))
    for outputs, targets in BATCHES[3:]:
        second.update(outputs, targets)
    assert second.compute() == whole.compute()
