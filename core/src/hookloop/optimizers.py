"""Optimizers by name, and what one has to be to train a model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hookloop.annotations import accepts
from hookloop.errors import ArgumentError, did_you_mean, listed, warn
from hookloop.selection import parse, read_bare

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adamax": torch.optim.Adamax,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "rmsprop": torch.optim.RMSprop,
}
_FUSED = ("sgd", "adam", "adamw", "adagrad")
#: Where the optimizer itself has no default.
_RATES = {"sgd": 0.01}
#: What Keras calls the settings.
_KERAS = {"learning_rate": "lr", "epsilon": "eps", "beta_1": "betas", "beta_2": "betas"}


def make_optimizer(chosen: Any, model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer of a run.

    Args:
        chosen: An instance; a name with settings, such as ``"sgd:lr=0.1,momentum=0.9"``; or a
            callable that takes the parameters.
        model: Whose parameters it is to change.

    Raises:
        ArgumentError: For a name nobody knows, what is no optimizer, or a model with nothing to
            optimize.
    """
    if not isinstance(chosen, str | torch.optim.Optimizer) and not callable(chosen):
        message = f"optimizer={chosen!r} is a {type(chosen).__name__}."
        raise ArgumentError(message, fix='pass "adam", an instance, or lambda parameters: ...')
    if not isinstance(chosen, torch.optim.Optimizer):
        _refuse_empty(model)
        by_name = isinstance(chosen, str)
        chosen = _by_name(chosen, model) if by_name else chosen(model.parameters())
    if isinstance(chosen, torch.optim.LBFGS):
        message = "LBFGS calls the model itself, several times a step, which Trainer does not do."
        raise ArgumentError(message, fix="use another optimizer, or your own loop")
    if not isinstance(chosen, torch.optim.Optimizer):
        message = f"optimizer= made a {type(chosen).__name__}, which is no torch optimizer."
        raise ArgumentError(message, fix="return a torch.optim.Optimizer")
    return chosen


def _refuse_empty(model: nn.Module) -> None:
    if next(model.parameters(), None) is None:
        message = f"The model {type(model).__name__} has no parameters, so nothing can be trained."
        fix = "make its layers attributes of the module; a list of them is an nn.ModuleList"
        raise ArgumentError(message, fix=fix)


def _by_name(text: str, model: nn.Module) -> torch.optim.Optimizer:
    name, written = parse(text)
    settings = {key: read_bare(value) for key, value in written.items()}
    key = name.lower()
    if key not in OPTIMIZERS:
        message = f"No optimizer is called {name!r}.{did_you_mean(key, OPTIMIZERS)}"
        raise ArgumentError(message, fix=f"one of: {listed(OPTIMIZERS)}, or pass an instance")
    kind = OPTIMIZERS[key]
    _check(key, kind, settings)
    if key in _RATES:
        settings.setdefault("lr", _RATES[key])
    if key in _FUSED and "fused" not in settings and "foreach" not in settings:
        settings |= {"fused": True} if _can_fuse(kind, settings, model) else {}
    try:
        return kind(model.parameters(), **settings)
    except (TypeError, ValueError) as error:
        message = f"The optimizer {text!r} refused its settings: {error}."
        raise ArgumentError(message, fix=f"see torch.optim.{kind.__name__}") from None


def _can_fuse(
    kind: type[torch.optim.Optimizer], settings: Mapping[str, Any], model: nn.Module
) -> bool:
    """Tell whether the fused implementation works with this model, where it is.

    Torch says so at the first step only, so one is made here, of a single number of each kind.
    """
    if any(getattr(module, "sparse", False) for module in model.modules()):
        return False  # an embedding whose gradients are sparse, which no fused one takes
    kinds = {(one.device, one.dtype) for one in model.parameters() if one.requires_grad}
    try:
        for device, dtype in kinds:
            tried = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))
            tried.grad = torch.zeros_like(tried)
            kind([tried], **settings, fused=True).step()  # type: ignore[call-arg]
    except (RuntimeError, TypeError, ValueError):
        return False  # nor with these settings: the plain one says what is wrong with them
    return True


def _check(name: str, kind: type[torch.optim.Optimizer], settings: Mapping[str, Any]) -> None:
    """Refuse settings that the optimizer does not have, or of another type."""
    known = dict(inspect.signature(kind).parameters)
    del known["params"]
    for key, value in settings.items():
        if key not in known:
            keras = f" Keras's {key!r} is {_KERAS[key]!r} here." if _KERAS.get(key) in known else ""
            message = f"{name} has no setting {key!r}.{keras or did_you_mean(key, known)}"
            raise ArgumentError(message, fix=f"its settings are: {listed(known)}")
        # What is no number, and text at that: torch would compare it with one.
        if isinstance(value, str) or not accepts(known[key].annotation, value):
            wanted = inspect.formatannotation(known[key].annotation)
            message = f"{name}: {key}={value!r} is a {type(value).__name__}, not {wanted}."
            raise ArgumentError(message, fix=f"pass {key} as {wanted}")


def check_parameters(
    optimizer: torch.optim.Optimizer, model: nn.Module, *losses: nn.Module
) -> None:
    """Look at whose parameters an optimizer changes.

    Args:
        optimizer: The optimizer of a run.
        model: The model that is to be trained.
        *losses: Losses that are modules: their parameters may be trained, too.

    Raises:
        ArgumentError: If none of them is the model's, or a loss's.
    """
    own = {id(one) for module in (model, *losses) for one in module.parameters()}
    groups = optimizer.param_groups
    foreign = [id(one) not in own for group in groups for one in group["params"]]
    fix = "make it from model.parameters() of the model that is trained"
    if all(foreign):
        message = "The optimizer has none of the model's parameters: it would not be trained."
        raise ArgumentError(message, fix=fix)
    if any(foreign):
        warn(
            "The optimizer has parameters that are not the model's: they change only if the loss "
            f"depends on them.\nfix: {fix}"
        )
