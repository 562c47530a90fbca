"""Checks of what there is before a run: the package, its import, its constructor, its hooks."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from hookloop import discovery
from hookloop.annotations import accepts
from hookloop.callback import Callback, constructor, settings_of
from hookloop.describe import class_of
from hookloop.errors import HookloopError, UnknownCallbackError, without_fix
from hookloop.implementations import implementations, likely_hook
from hookloop.registry import Registry
from hookloop.selection import parse
from hookloop.testing.kit import MADE, TRAINED, Check, check, fail
from hookloop.testing.subject import Subject
from hookloop.testing.tiny import TinyLoop

#: What takes long to import, and is wanted when a run starts at the earliest.
HEAVY = frozenset(
    "IPython PIL aim boto3 clearml comet_ml cv2 dask datasets google jax keras lightning "
    "matplotlib mlflow neptune numpy onnx pandas plotly polars pyarrow pytorch_lightning ray "
    "requests scipy seaborn sklearn sympy tensorboard tensorflow torch torchvision transformers "
    "wandb".split()
)
_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@check(applies=lambda subject: subject.packaged)
def discoverable(subject: Subject, folder: Path) -> None:
    """Its distribution offers it under one name, in snake case, and no other has that name."""
    try:
        plugin = subject.plugin
    except HookloopError as error:
        unknown = isinstance(error, UnknownCallbackError)
        fix = f'name it under [project.entry-points."{discovery.GROUP}"], and install it'
        raise fail(without_fix(error), fix=fix if unknown else str(error.fix)) from None
    if not _SNAKE.fullmatch(plugin.name):
        message = f"The name {plugin.name!r} is not in snake case, which users expect."
        raise fail(message, fix="name the entry point as in early_stopping")
    if not plugin.version:
        message = f"The metadata of {plugin.distribution} are damaged."
        raise fail(message, fix=f"pip install --force-reinstall {plugin.distribution}")


@check("discoverable")
def imports_lightly(subject: Subject, folder: Path) -> None:
    """Importing it pulls in nothing heavy, as torch and NumPy are, so that help is instant."""
    heavy = sorted(HEAVY.intersection(_import_report(subject, folder)["modules"]))
    if heavy:
        raise fail(
            f"Importing it imports {', '.join(heavy)}.",
            fix="import them in the function that uses them, or under TYPE_CHECKING",
        )


@check("discoverable")
def imports_without_effects(subject: Subject, folder: Path) -> None:
    """Importing it does nothing else: no thread, handler, filter, file, print or variable."""
    changed = _import_report(subject, folder)["changed"]
    if changed:
        message = f"Importing it changes {', '.join(changed)}."
        raise fail(message, fix="do it in on_train_begin, and take it back in on_train_end")


@check("discoverable")
def can_be_made(subject: Subject, folder: Path) -> None:
    """It can be made with its settings, and is a callback then."""
    subject.make(folder)


@check(*MADE)
def constructor_validates(subject: Subject, folder: Path) -> None:
    """It refuses settings that it does not have, words that are not allowed, text for numbers."""
    factory, settings = subject.factory, subject.filled(folder)
    parameters = {
        name: one
        for name, one in constructor(factory).parameters.items()
        if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    }
    bare = [name for name, one in parameters.items() if one.annotation is one.empty]
    if bare:
        message = f"Its settings {', '.join(bare)} have no annotation, so nothing can check them."
        raise fail(message, fix="annotate the arguments of the constructor")
    _require_refused(factory, {**settings, "no_such_setting": 1}, "it takes what it does not have")
    for name, one in parameters.items():
        for value in _senseless(one.annotation):
            _require_refused(factory, {**settings, name: value}, "the value makes no sense")
    for refused in subject.refused:
        _require_refused(factory, {**settings, **refused}, "the suite says that it is refused")


def _senseless(annotation: Any) -> list[Any]:
    """Give values that nothing annotated so can mean."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    is_number = re.fullmatch(r"(int|float)( \| None)?", text)
    found: list[Any] = ["no such word"] if "Literal" in text or is_number else []
    found = [value for value in found if not accepts(annotation, value)]
    return [*found, float("nan")] if is_number and is_number[1] == "float" else found


def _require_refused(factory: Any, settings: dict[str, Any], why: str) -> None:
    try:
        factory(**settings)
    except (ValueError, TypeError):
        return
    *_, (name, value) = settings.items()
    raise fail(
        f"The constructor accepts {name}={value!r}: {why}.",
        fix="raise hookloop.errors.SettingError(message, fix=...) in __init__",
    )


@check(*MADE)
def hooks_are_valid(subject: Subject, folder: Path) -> None:
    """Each of its hooks exists and has the arguments that it asks for; there is at least one."""
    callback = subject.make(folder)
    known = Registry([(subject.name, callback)]).hooks
    brought = any(name in known for name in constructor(subject.factory).parameters)
    if not brought and not list(implementations(callback, subject.name, 0, known)):
        meant = likely_hook(callback) or "It has no method that is a hook."
        raise fail(meant, fix="name a method after one of the hooks in docs/hooks.md")


@check(*TRAINED)
def pickles(subject: Subject, folder: Path) -> None:
    """It can be pickled before and after a run, and what comes back has its settings, and runs."""
    callback = subject.make(folder)
    for when in ("before", "after"):
        try:
            again = pickle.loads(pickle.dumps(callback))  # noqa: S301  (our own bytes)
        except Exception as error:
            raise fail(
                f"It cannot be pickled {when} a run: {type(error).__name__}: {error}",
                fix="make locks, files and threads in on_train_begin, and drop them in "
                "on_train_end; or leave them out in __getstate__",
            ) from error
        if settings_of(again) != settings_of(callback):
            message = f"Pickled {when} a run, it has other settings: {settings_of(again)}."
            raise fail(message, fix="keep `_settings` in __getstate__, or derive from Callback")
        TinyLoop().fit([again])
        if when == "before":
            TinyLoop().fit([callback])


@check(*TRAINED, applies=lambda subject: class_of(subject.factory) is not None)
def keeps_settings(subject: Subject, folder: Path) -> None:
    """A run changes none of its settings, nor what was passed for them."""
    passed = subject.filled(folder)
    before = _settings_now(subject.make(folder), passed)
    callback = subject.make(folder)
    TinyLoop().fit([callback])
    after = _settings_now(callback, passed)
    changed = sorted(name for name in before if before[name] != after.get(name))
    if changed:
        was, now = (", ".join(repr(part.get(one)) for one in changed) for part in (before, after))
        message = f"A run changes its settings {', '.join(changed)}: {was} became {now}."
        raise fail(message, fix="keep what changes in an attribute of another name")


def _settings_now(callback: Any, passed: dict[str, Any]) -> dict[str, str]:
    """Read the settings wherever they stand: what was bound, attributes, and what was passed."""
    bound = settings_of(callback) if isinstance(callback, Callback) else {}
    own = {name: value for name, value in vars(callback).items() if name in {*bound, *passed}}
    parts = {"": bound, "self.": own, "passed as ": passed}
    return {
        f"{place}{name}": _without_address(value)
        for place, part in parts.items()
        for name, value in part.items()
    }


def _without_address(value: Any) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


# -- importing ---------------------------------------------------------------------------

_SCRIPT = """
import json, logging, os, signal, sys, threading, warnings
from hookloop.discovery import import_object
def world():
    return {
        "threads": [thread.name for thread in threading.enumerate()],
        "signal handlers": [str(signal.getsignal(one)) for one in signal.valid_signals()],
        "hooks of sys": [sys.excepthook, sys.displayhook, sys.stdout, sys.stderr],
        "logging": [list(logging.root.handlers), logging.root.level],
        "warning filters": list(warnings.filters),
        "environment variables": dict(os.environ),
        "the current folder": [os.getcwd(), sorted(os.listdir())],
    }
target, report = sys.argv[1:]
known, before = set(sys.modules), world()
import_object(target, "The callback")
after = world()
found = {
    "modules": sorted({name.partition(".")[0] for name in set(sys.modules) - known}),
    "changed": [name for name in before if before[name] != after[name]],
}
sys.stdout.flush()
with open(report, "w") as file:
    json.dump(found, file)
os._exit(0)
"""


def _import_report(subject: Subject, folder: Path) -> dict[str, list[str]]:
    """Import it in a process of its own, once, and tell what that did."""
    if "import" not in subject.memory:
        target = subject.plugin.object if subject.packaged else parse(subject.reference)[0]
        report = folder.parent / f"{folder.name}.json"
        places = os.pathsep.join(place or os.getcwd() for place in sys.path)
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-P", "-c", _SCRIPT, target, str(report)],
            env={**os.environ, "PYTHONPATH": places},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.exists():
            lines = [one for one in ran.stderr.splitlines() if one and not one.startswith("fix:")]
            cause = (lines or [f"status {ran.returncode}"])[-1]
            raise fail(f"It cannot be imported. {cause}", fix="mend the import")
        found = json.loads(report.read_text())
        if ran.stdout or ran.stderr:
            found["changed"].append("what is printed")
        subject.memory["import"] = found
    return dict(subject.memory["import"])


CHECKS: tuple[Check, ...] = (
    discoverable,
    imports_lightly,
    imports_without_effects,
    can_be_made,
    constructor_validates,
    hooks_are_valid,
    keeps_settings,
    pickles,
)
