"""Schedulers of torch by name: ``"step:step_size=3,gamma=0.5"``."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from hookloop.errors import SettingError, did_you_mean, listed

#: Every name that may be given, and what it stands for.
NAMES: dict[str, type[LRScheduler]] = {
    "step": lr_scheduler.StepLR,
    "multistep": lr_scheduler.MultiStepLR,
    "exponential": lr_scheduler.ExponentialLR,
    "cosine": lr_scheduler.CosineAnnealingLR,
    "cosine_warm_restarts": lr_scheduler.CosineAnnealingWarmRestarts,
    "linear": lr_scheduler.LinearLR,
    "constant": lr_scheduler.ConstantLR,
    "polynomial": lr_scheduler.PolynomialLR,
    "onecycle": lr_scheduler.OneCycleLR,
    "cyclic": lr_scheduler.CyclicLR,
    "plateau": lr_scheduler.ReduceLROnPlateau,
}
_NOT_OFFERED = ("optimizer", "last_epoch")
_WORDS = {"true": True, "false": False, "none": None}


def parse(text: str) -> tuple[type[LRScheduler], dict[str, Any]]:
    """Read a name and its settings, and try them on an optimizer that nobody uses.

    Raises:
        SettingError: For a name that is not in `NAMES`, or settings that torch refuses.
    """
    name, _, rest = text.partition(":")
    known = {_loose(one): kind for one, kind in NAMES.items()}
    if _loose(name) not in known:
        message = f"learning_rate_scheduler: no scheduler is called {name.strip()!r}."
        raise SettingError(message + did_you_mean(name, NAMES), fix=f"one of: {listed(NAMES)}")
    kind = known[_loose(name)]
    settings = dict(_settings(rest, text))
    offered = [one for one in inspect.signature(kind).parameters if one not in _NOT_OFFERED]
    for key in settings:
        if key not in offered:
            message = f"learning_rate_scheduler: {kind.__name__} has no setting {key!r}."
            raise SettingError(
                message + did_you_mean(key, offered), fix=f"one of: {listed(offered)}"
            )
    make(kind, settings, torch.optim.SGD([torch.zeros(1)], lr=1.0, momentum=0.9))
    return kind, settings


def make(kind: type[LRScheduler], settings: Mapping[str, Any], optimizer: Optimizer) -> LRScheduler:
    """Make a scheduler whose base rates are those that are in force now.

    Raises:
        SettingError: If torch refuses the settings, or the optimizer.
    """
    forget_base_rates(optimizer)
    try:
        return kind(optimizer, **settings)
    except (TypeError, ValueError, AttributeError) as error:
        message = f"learning_rate_scheduler: {kind.__name__} refused its settings: {error}."
        fix = f"see torch.optim.lr_scheduler.{kind.__name__}"
        raise SettingError(message, fix=fix) from error


def forget_base_rates(optimizer: Optimizer) -> None:
    """Forget what an earlier scheduler began with: torch would take it for the next one's base."""
    for group in optimizer.param_groups:
        group.pop("initial_lr", None)


def _loose(name: str) -> str:
    return re.sub(r"[-_.\s]", "", name.lower())


def _settings(text: str, whole: str) -> Iterator[tuple[str, Any]]:
    """Split at commas that stand outside of brackets."""
    for part in re.findall(r"(?:\([^)]*\)|\[[^\]]*\]|[^,])+", text):
        key, equals, value = part.partition("=")
        if not equals or not key.strip().isidentifier():
            message = f"learning_rate_scheduler: {part.strip()!r} in {whole!r} is no setting."
            raise SettingError(message, fix='write name=value, as in "step:step_size=3,gamma=0.5"')
        yield key.strip(), _value(value.strip())


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
