"""Losses and metrics by name, and the objective that a step computes with them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hookloop.errors import ArgumentError, DataError, did_you_mean, listed
from hookloop.structures import described

Function = Callable[[Any, Any], Tensor]

LOSSES: dict[str, Function] = {
    "cross_entropy": F.cross_entropy,
    "binary_cross_entropy": F.binary_cross_entropy,
    "binary_cross_entropy_with_logits": F.binary_cross_entropy_with_logits,
    "bce": F.binary_cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
    "nll": F.nll_loss,
    "mse": F.mse_loss,
    "mean_squared_error": F.mse_loss,
    "mae": F.l1_loss,
    "mean_absolute_error": F.l1_loss,
    "l1": F.l1_loss,
    "smooth_l1": F.smooth_l1_loss,
    "huber": F.huber_loss,
    "kl_div": lambda outputs, targets: F.kl_div(outputs, targets, reduction="batchmean"),
}
#: What Keras calls them, and what is to be known before one takes the other's place.
_KERAS = {
    "categorical_crossentropy": (
        "cross_entropy",
        "takes logits (no softmax), and class indices or rows of probabilities",
    ),
    "sparse_categorical_crossentropy": (
        "cross_entropy",
        "takes logits (no softmax) and class indices (int64)",
    ),
    "binary_crossentropy": (
        "binary_cross_entropy_with_logits",
        "takes logits (no sigmoid), and 0 and 1 as floats of the same shape",
    ),
    "kl_divergence": ("kl_div", "takes log-probabilities and probabilities"),
    "categorical_accuracy": ("accuracy", "sees by the shapes what the targets are"),
    "sparse_categorical_accuracy": ("accuracy", "sees by the shapes what the targets are"),
    "binary_accuracy": ("accuracy", "takes logits: those above 0 mean 1"),
    "sparse_top_k_categorical_accuracy": ("top5_accuracy", "looks at five scores, not k"),
}


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of right answers.

    Args:
        outputs: Scores of shape (N, C, ...), of which the highest counts; or logits of the same
            shape as the targets, of which those above 0 mean 1.
        targets: Classes of shape (N, ...), or one-hot of shape (N, C), or 0 and 1.

    Returns:
        0-d float tensor on the same device.
    """
    if outputs.ndim == targets.ndim + 1:
        return (outputs.argmax(1) == targets).float().mean()
    if outputs.ndim > 1 and outputs.shape[1] > 1 and outputs.shape == targets.shape:
        return (outputs.argmax(1) == targets.argmax(1)).float().mean()
    return ((outputs > 0) == (targets > 0.5)).float().mean()


def top5_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of samples whose class is among the five highest scores.

    Args:
        outputs: Scores of shape (N, C).
        targets: Classes of shape (N,).
    """
    best = outputs.topk(min(5, outputs.shape[1]), dim=1).indices
    return (best == targets.unsqueeze(1)).any(1).float().mean()


METRICS: dict[str, Function] = {
    "accuracy": accuracy,
    "acc": accuracy,
    "top5_accuracy": top5_accuracy,
    "top5_acc": top5_accuracy,
    "mse": F.mse_loss,
    "mean_squared_error": F.mse_loss,
    "mae": F.l1_loss,
    "mean_absolute_error": F.l1_loss,
}


def _are_answers(outputs: Tensor, targets: Tensor) -> bool:
    """Tell whether targets can be right or wrong; waits for the device, once."""
    if not targets.is_floating_point():
        return True
    if outputs.ndim == targets.ndim + 1:  # classes, as floats
        fit = (targets >= 0) & (targets == targets.round())
    elif outputs.ndim > 1 and outputs.shape[1] > 1:  # one-hot, smoothed perhaps
        fit = (targets >= 0) & ((targets.sum(1, keepdim=True) - 1).abs() < 1e-3)
    else:
        fit = (targets == 0) | (targets == 1)
    return bool(fit.all())


class Objective:
    """What a run computes from outputs and targets: one loss to minimise, and metrics to report.

    Args:
        loss: Name, callable or module; a mapping of them for outputs that are a mapping.
        metrics: Names, callables or accumulating objects, in a list or by name; a mapping from
            outputs to such lists for outputs that are a mapping.

    Attributes:
        single: The loss, where there is one for all outputs; else None.
        metrics: Every metric by its key in the logs.
        modules: Losses that are modules, which belong on the model's device.
    """

    def __init__(self, loss: Any, metrics: Any = None) -> None:
        self.outputs = list(loss) if isinstance(loss, Mapping) else None
        self._losses = {
            output: _loss(one) for output, one in (loss.items() if self.outputs else ())
        }
        self.single = None if self.outputs else _loss(loss)
        self.metrics: dict[str, Any] = {}
        self._functions: list[tuple[str, str | None, Function]] = []
        self.accumulating: list[tuple[str, str | None, Any]] = []
        self._checked = False
        for key, output, metric in self._named(metrics):
            self._add(key, output, metric)

    @property
    def modules(self) -> list[nn.Module]:
        found = [*self._losses.values(), self.single, *self.metrics.values()]
        return [one for one in found if isinstance(one, nn.Module)]

    @property
    def names(self) -> list[str]:
        """Keys in the logs of an epoch: ``loss``, the losses of the outputs, and the metrics."""
        return ["loss", *(f"{output}_loss" for output in self._losses), *self.metrics]

    def described(self) -> dict[str, Any]:
        """Say in words what the loss is, and each metric."""
        loss: Any = self.single if self.single is not None else self._losses
        return {"loss": in_words(loss), "metrics": in_words(self.metrics)}

    def loss(self, outputs: Any, targets: Any, logs: dict[str, Any]) -> Tensor:
        """Compute the loss of a batch.

        Args:
            outputs: What the model returned.
            targets: Those of the batch; a mapping with the keys of the outputs if these are one.
            logs: Gets the loss of each output, where there are several.

        Returns:
            0-d tensor with a gradient.
        """
        if self.single is not None:
            return self.single(outputs, targets)
        total: Any = 0
        for output, function in self._losses.items():
            part = function(_pick(outputs, output, "outputs"), _pick(targets, output, "targets"))
            dict.__setitem__(logs, f"{output}_loss", part.detach())
            total = total + part
        return total  # type: ignore[no-any-return]

    def check(self, outputs: Any, targets: Any) -> None:
        """Refuse targets that a metric by name makes no sense of; called with a first batch.

        Raises:
            DataError: If ``accuracy`` is asked for, and the targets are numbers, not answers.
        """
        if self._checked:
            return
        self._checked = True
        for key, output, function in self._functions:
            if function in (accuracy, top5_accuracy):
                found, wanted = _both(outputs, targets, output)
                if not _are_answers(found, wanted):
                    message = (
                        f"The metric {key!r} is given targets that are neither classes, nor "
                        f"one-hot rows, nor 0 and 1 ({described(wanted)})."
                    )
                    fix = 'to predict numbers use "mae" or "mse"; for classes pass whole numbers'
                    raise DataError(message, fix=fix)

    def measure(self, outputs: Any, targets: Any, logs: dict[str, Any]) -> None:
        """Add the metrics of a batch to its logs, and to the metrics that accumulate."""
        with torch.no_grad():
            for key, output, function in self._functions:
                value = function(*_both(outputs, targets, output))
                if getattr(value, "ndim", 0):
                    raise _not_single(f"metric {key!r}", value)
                dict.__setitem__(logs, key, value)
            for _, output, metric in self.accumulating:
                metric.update(*_both(outputs, targets, output))

    def results(self) -> dict[str, Any]:
        """Give what the accumulating metrics have gathered, which stays there for `reset`.

        A state that is saved during validation still belongs to the epoch.
        """
        return {key: metric.compute() for key, _, metric in self.accumulating}

    def reset(self) -> None:
        for _, _, metric in self.accumulating:
            metric.reset()

    def twin(self) -> Objective:
        """Make one with accumulating metrics of its own, so that neither disturbs the other."""
        other = copy.copy(self)
        other.accumulating = [(k, output, copy.deepcopy(m)) for k, output, m in self.accumulating]
        other.reset()
        return other

    def _named(self, metrics: Any) -> list[tuple[str, str | None, Any]]:
        if metrics is None:
            return []
        if not isinstance(metrics, Mapping):
            return [(_key(metric), None, metric) for metric in _as_list(metrics)]
        if self.outputs is None:
            return [(str(key), None, metric) for key, metric in metrics.items()]
        unknown = [output for output in metrics if output not in self.outputs]
        if unknown:
            message = (
                f"metrics= names the output {unknown[0]!r}, loss= only {listed(self.outputs)}."
            )
            raise ArgumentError(message, fix="give every output a loss")
        return [
            (f"{output}_{_key(metric)}", output, metric)
            for output, some in metrics.items()
            for metric in _as_list(some)
        ]

    def _add(self, key: str, output: str | None, metric: Any) -> None:
        if key in self.names or key == "size":
            message = f"Two metrics, or a loss and a metric, are both called {key!r}."
            raise ArgumentError(message, fix='name them: metrics={"one": ..., "other": ...}')
        found = _named_function(metric, METRICS, "metric")
        self.metrics[key] = found
        if all(hasattr(found, name) for name in ("update", "compute", "reset")):
            self.accumulating.append((key, output, found))
        elif callable(found):
            self._functions.append((key, output, found))
        else:
            message = f"The metric {key!r} is a {type(found).__name__}, which cannot be called."
            fix = "pass a name, a function (outputs, targets), or an object with update and compute"
            raise ArgumentError(message, fix=fix)


def in_words(one: Any) -> Any:
    """Describe a loss or a metric, or a mapping of them, by name; a module of torch with settings.

    What somebody else's keeps may be no setting, and change from batch to batch.
    """
    if isinstance(one, Mapping):
        return {str(key): in_words(value) for key, value in one.items()}
    name = getattr(one, "__name__", type(one).__name__)
    own = vars(one) if type(one).__module__.startswith("torch.nn") else {}
    settings = [
        f"{key}={value}"
        for key, value in own.items()
        if isinstance(value, int | float | str) and key[0] != "_" and key != "training"
    ]
    return f"{name}({listed(settings)})" if settings else name


def check_loss(loss: Any, *, gradient: bool = True) -> None:
    """Refuse what is no loss, or has no gradient; called with the first batch of a run."""
    if not isinstance(loss, Tensor):
        message = f"The loss is a {type(loss).__name__}, not a tensor."
        raise DataError(message, fix="return a tensor from the loss, computed from the outputs")
    if loss.ndim:
        raise _not_single("loss", loss)
    if gradient and not loss.requires_grad:
        message = "The loss has no gradient: it does not depend on any parameter of the model."
        fix = (
            "compute it from the outputs without .detach() or .item(); leave a parameter trainable"
        )
        raise DataError(message, fix=fix)


def _not_single(what: str, value: Any) -> DataError:
    message = f"The {what} has shape {tuple(value.shape)}, not that of a single number."
    return DataError(message, fix="reduce it: .mean() over the samples")


def _loss(chosen: Any) -> Function:
    found = _named_function(chosen, LOSSES, "loss")
    if not callable(found):
        message = f"loss={found!r} is a {type(found).__name__}."
        raise ArgumentError(message, fix='pass "cross_entropy", or a function (outputs, targets)')
    return found  # type: ignore[no-any-return]


def _named_function(chosen: Any, table: Mapping[str, Any], kind: str) -> Any:
    if not isinstance(chosen, str):
        if isinstance(chosen, type):
            raise ArgumentError(f"{chosen.__name__} is a class.", fix=f"write {chosen.__name__}()")
        return chosen
    if chosen.lower() in table:
        return table[chosen.lower()]
    ours, remark = _KERAS.get(chosen.lower(), ("", ""))
    if ours in table:
        message = f"No {kind} is called {chosen!r}; Keras's is {ours!r} here, which {remark}."
        raise ArgumentError(message, fix=f'write "{ours}", or pass a function')
    message = f"No {kind} is called {chosen!r}.{did_you_mean(chosen.lower(), table)}"
    raise ArgumentError(message, fix=f"one of: {listed(table)}, or pass a function")


def _key(metric: Any) -> str:
    if isinstance(metric, str):
        return metric
    name = getattr(metric, "name", None) or getattr(metric, "__name__", type(metric).__name__)
    return str(name)


def _as_list(metrics: Any) -> list[Any]:
    if (
        isinstance(metrics, str)
        or not isinstance(metrics, Iterable)
        or isinstance(metrics, nn.Module)
    ):
        return [metrics]
    return list(metrics)


def _both(outputs: Any, targets: Any, output: str | None) -> tuple[Any, Any]:
    if output is None:
        return outputs, targets
    return _pick(outputs, output, "outputs"), _pick(targets, output, "targets")


def _pick(values: Any, output: str, what: str) -> Any:
    if not isinstance(values, Mapping) or output not in values:
        held = listed(values) if isinstance(values, Mapping) else f"a {type(values).__name__}"
        message = f"loss= names the output {output!r}, but the {what} are {held}."
        raise DataError(message, fix=f"give the {what} as a mapping with that key")
    return values[output]
