"""What can be known to be wrong before training: with the settings, and with the host."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from hookloop import files
from hookloop.errors import CapabilityError, SettingError, StateError, listed, warn
from hookloop.saving import refuse_unless_policy, refuse_unless_positive
from hookloop.templates import PathTemplate

if TYPE_CHECKING:
    from hookloop import Loop


class Settings(Protocol):
    """The settings that depend on each other."""

    filepath: str
    monitor: str
    save_best_only: bool
    initial_value_threshold: float | None
    keep_last: int | None
    keep_best: int | None
    on_save_error: Any


def refuse_foreign(template: PathTemplate, kept: Mapping[str, Any]) -> None:
    """Refuse a state with files that this callback never wrote: it would delete them one day."""
    for path in [*(one["path"] for one in kept["files"]), *kept["doomed"]]:
        if not isinstance(path, str) or not template.gives(path):
            what = f"{path!r}, which {template.text!r} never gives"
            message = f"model_checkpoint: the state names a file {what}."
            raise StateError(message, fix="use an intact state of such a run")


def refuse_tensorflow(**given: Any) -> None:
    """Refuse arguments of Keras that mean something only in TensorFlow."""
    for name, value in given.items():
        if value is not None:
            message = f"model_checkpoint: {name}= means something only in TensorFlow."
            fix = f"leave {name} out"
            if name == "load_weights_on_restart":
                fix += ", and continue a run with fit(resume=PATH)"
            raise SettingError(message, fix=fix)


def check_settings(settings: Settings, fields: Collection[str], unit: str) -> None:
    """Refuse settings that make no sense, alone or together.

    Args:
        settings: The settings.
        fields: Names in the path.
        unit: What is counted from save to save.
    """
    if settings.filepath.endswith(("/", os.sep)):
        message = f"model_checkpoint: filepath={settings.filepath!r} is a folder."
        raise SettingError(message, fix=f"filepath={settings.filepath + 'model.pt'!r}")
    if "batch" in fields and unit == "epochs":
        message = "model_checkpoint: {batch} stands in the path, but saves are after epochs."
        raise SettingError(message, fix="leave {batch} out, or save by batches: save_freq=100")
    refuse_unless_policy("model_checkpoint", settings.on_save_error)
    threshold = settings.initial_value_threshold
    if threshold is not None and math.isnan(threshold):
        message = "model_checkpoint: initial_value_threshold is not a number."
        raise SettingError(message, fix="leave it out, or give the value to beat")
    _check_bounds(settings, fields)
    _check_freshness(settings, unit)


def _check_bounds(settings: Settings, fields: Collection[str]) -> None:
    for name in ("keep_last", "keep_best"):
        bound = getattr(settings, name)
        if bound is None:
            continue
        fix = f"{name}=1 or more, or leave it out to keep all"
        refuse_unless_positive("model_checkpoint", name, bound, fix)
        if not fields:
            message = (
                f"model_checkpoint: {name}={bound}, but {settings.filepath!r} is one file, which "
                "each save replaces."
            )
            root, suffix = os.path.splitext(settings.filepath)
            fix = f"leave {name} out, or filepath={root + '-{epoch:02d}' + suffix!r}"
            raise SettingError(message, fix=fix)


def _check_freshness(settings: Settings, unit: str) -> None:
    compares = settings.save_best_only or settings.keep_best is not None
    if compares and unit != "epochs" and settings.monitor.startswith("val_"):
        message = (
            f"model_checkpoint: {settings.monitor!r} is measured once an epoch, so between epochs "
            "there is no fresh value of it to compare."
        )
        raise SettingError(message, fix="save_freq='epoch', or monitor='loss'")


def refuse_folder(path: str) -> None:
    """Refuse a path at which there is a folder.

    Raises:
        FileError: Saying so.
    """
    if os.path.isdir(path):
        raise files.file_error(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))


def refuse_host(loop: Loop, who: str, *, weights_only: bool) -> None:
    """Refuse a host that cannot give what is to be saved.

    Raises:
        CapabilityError: Saying what would go.
    """
    if not weights_only and not loop.supports("state"):
        message = f"{who} saves the whole state of a run, which {loop.host} does not offer."
        raise CapabilityError(message, fix="save_weights_only=True")
    model: object | None = loop.model
    if model is None:
        message = f"{who} saves a model, and {loop.host} was given none."
        raise CapabilityError(message, fix="pass model= to the loop")


def warn_unknown(template: PathTemplate, metrics: Collection[str] | None, who: str) -> None:
    """Warn of names in the path that nobody is known to report.

    Args:
        template: The path.
        metrics: What the host reports, ``loss`` included; None if that is not known.
        who: Whose path it is.
    """
    if metrics is None:
        return
    known = [*metrics, *(f"val_{name}" for name in metrics)]
    unknown = template.unknown(known)
    if unknown:
        warn(
            f"{who}: nothing is known to report {' '.join(unknown)} It is written as 'na' in "
            f"{template.text!r} unless a callback logs it.\nfix: use one of: {listed(known)}",
        )
