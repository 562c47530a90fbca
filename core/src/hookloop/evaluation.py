"""Evaluating and predicting: one pass over the data, without gradients, leaving no trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hookloop import rng
from hookloop.computing import Compute, Forward
from hookloop.data import Batch, Source
from hookloop.driver import Driver
from hookloop.errors import DataError
from hookloop.logs import Logs
from hookloop.means import Means
from hookloop.models import in_mode
from hookloop.objectives import Objective, check_loss


def evaluate(
    model: nn.Module, compute: Compute, objective: Objective, source: Source, driver: Driver | None
) -> Logs:
    """Measure loss and metrics over all samples.

    Args:
        model: Put into ``eval`` mode, and back into the mode of each module afterwards.
        compute: Makes outputs and loss of a batch.
        objective: The metrics; one with accumulators of its own.
        source: The data.
        driver: Whose test hooks run; None for an evaluation that no callback sees.

    Returns:
        ``loss`` and the metrics, sample-weighted means unless a metric accumulates.
    """
    objective.reset()
    means = Means()
    with rng.fork(), in_mode(model, training=False), torch.no_grad():
        if driver is not None:
            driver.test_begin()
        for index, batch in enumerate(_some(source)):
            logs = _measure(compute, objective, index, batch, driver)
            means.add(logs)
            if driver is not None and _is_cut(driver):
                break
        logs = Logs(means.result())
        logs.update(objective.results())
        return driver.test_end(logs) if driver is not None else logs


def _measure(
    compute: Compute, objective: Objective, index: int, batch: Batch, driver: Driver | None
) -> Logs:
    inputs, targets, size = batch
    logs = Logs({"size": size})
    if driver is not None:
        loop = driver.loop
        loop.inputs, loop.targets = inputs, targets
        driver.test_batch_begin(index, logs)
    outputs, loss = compute(inputs, targets, logs)
    if not index:
        check_loss(loss, gradient=False)
        objective.check(outputs, targets)
    dict.__setitem__(logs, "loss", loss)
    objective.measure(outputs, targets, logs)
    if driver is not None:
        loop.outputs, loop.loss = outputs, loss
        driver.test_batch_end(index, logs)
    return logs


def predict(model: nn.Module, forward: Forward, source: Source, driver: Driver) -> Any:
    """Collect what the model returns for all samples.

    Returns:
        Tensors joined along the samples, in the structure that the model returns.
    """
    found = []
    with rng.fork(), in_mode(model, training=False), torch.no_grad():
        driver.predict_begin()
        for index, (inputs, _, size) in enumerate(_some(source)):
            driver.loop.inputs = inputs
            driver.predict_batch_begin(index, Logs({"size": size}))
            outputs = driver.loop.outputs = forward(inputs)
            driver.predict_batch_end(index, Logs({"size": size, "outputs": outputs}))
            found.append(outputs)
            if _is_cut(driver):
                break
        driver.predict_end()
    return _joined(found)


def _is_cut(driver: Driver) -> bool:
    """Whether to leave the rest: on a signal, or if a callback stops what is not part of a fit."""
    loop = driver.loop
    return loop.interrupted or (loop.epoch is None and bool(loop.asked))


def _some(source: Source) -> Iterator[Batch]:
    empty = True
    with source.untouched():
        for batch in source.batches(0, 0):
            empty = False
            yield batch
    if empty:
        fix = "pass data with at least one batch; a generator can be read only once"
        raise DataError("The data yield no batch.", fix=fix)


def _joined(found: list[Any]) -> Any:
    first = found[0]
    if isinstance(first, Tensor):
        return torch.cat(found)
    if isinstance(first, Mapping):
        return {key: _joined([one[key] for one in found]) for key in first}
    if isinstance(first, list | tuple):
        parts = [_joined(list(some)) for some in zip(*found, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    message = f"The model returns a {type(first).__name__}, which cannot be joined."
    raise DataError(message, fix="return tensors, or tuples and mappings of them")
