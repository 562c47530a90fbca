"""What one step computes: Keras's own logs are means since the epoch began."""

from __future__ import annotations

from typing import Any

import torch

from hookloop import Logs
from hookloop_in_keras._keras import keras

Cell = list[Any]


class Catch:
    """Catches the loss, the outputs and the metrics of each batch, as they are computed.

    Nothing is computed for it, and nothing is told back from rounded means. Metrics that are means
    (most are) give the addends of the batch; others, such as AUC, have no value of one batch.

    Args:
        model: The model, compiled and built; `close` gives it back as it was.

    Attributes:
        outputs: What the model returned for the batch, where Keras computes the loss of it.
        own_step: Whether the step is Keras's own, and not one that the model brings.
        metrics: Names that its logs are known to have; None where the step is not Keras's.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.outputs: Any = None
        self._loss: Any = None
        self._means: dict[str, tuple[Cell, Cell]] = {}
        self._caught: list[Any] = []
        kind = type(model)
        self.own_step = all(
            getattr(kind, name) is getattr(keras.Model, name)
            for name in ("train_step", "test_step")
        )
        named = _named(model)
        self.metrics = list(named) if self.own_step else None
        for name, metric in named.items():
            self._watch_mean(name, metric)
        self._adding = set(named).difference(self._means)
        if self.own_step:
            self._watch_loss()

    def _watch_loss(self) -> None:
        compute = self._model.compute_loss

        def compute_loss(*args: Any, **kwargs: Any) -> Any:
            self._loss = loss = compute(*args, **kwargs)
            self.outputs = kwargs["y_pred"] if "y_pred" in kwargs else (*args, None, None, None)[2]
            return loss

        # Past Keras's own __setattr__, which looks for layers in what it is given.
        vars(self._model)["compute_loss"] = compute_loss

    def _watch_mean(self, name: str, metric: Any) -> None:
        kind = type(metric)
        if (
            not isinstance(metric, keras.metrics.Mean)
            or kind.result is not keras.metrics.Mean.result
        ):
            return
        cells: tuple[Cell, Cell] = ([], [])
        for variable, cell in zip((metric.total, metric.count), cells, strict=True):
            vars(variable)["assign_add"] = _noting(variable.assign_add, cell)
            self._caught.append(variable)
        self._means[name] = cells

    def clear(self) -> None:
        """Forget the batch before."""
        self._loss = self.outputs = None
        for total, count in self._means.values():
            total.clear()
            count.clear()

    def report(self, logs: Logs, returned: Any) -> Any:
        """Put what the batch computed into its logs.

        Args:
            logs: Of the batch.
            returned: What the step of the model returned.

        Returns:
            The loss, a tensor without gradient; None where it is not known.
        """
        for name, (totals, counts) in self._means.items():
            if totals and counts:
                logs[name] = _mean(sum(totals[1:], totals[0]), sum(counts[1:], counts[0]))
        if not self.own_step and isinstance(returned, dict):
            for name, value in returned.items():  # of this batch, unless a metric adds it up
                if name not in self._adding and name not in logs:
                    logs[name] = value
        if self._loss is None:
            return logs.raw("loss")
        loss = self._loss.detach() if hasattr(self._loss, "detach") else self._loss
        logs["loss"] = loss
        return loss

    def close(self) -> None:
        """Give the model back as it was."""
        self.clear()
        vars(self._model).pop("compute_loss", None)
        for variable in self._caught:
            vars(variable).pop("assign_add", None)
        self._caught.clear()


def _noting(assign_add: Any, cell: Cell) -> Any:
    def note(value: Any) -> Any:
        cell.append(value)
        return assign_add(value)

    return note


def _mean(total: Any, count: Any) -> Any:
    """Divide as Keras does: without any weight the mean is 0."""
    if getattr(count, "is_cpu", True):
        return total / count if count else 0.0
    return torch.where(count != 0, total / count, 0.0)  # without waiting for the device


def _named(model: Any) -> dict[str, Any]:
    """Give the model's metrics by their names in its logs."""
    found: dict[str, Any] = {}
    for metric in model.metrics:
        parts = getattr(metric, "metrics", None)  # of all that compile() was given
        if parts is None:
            found[metric.name] = metric
        elif parts:
            found.update(zip(metric.result(), parts, strict=False))
    return found
