"""Numbers that make no sense: refused with the name of the argument, or a value that works.

The arguments are found from the signatures, so that those of a new plugin are tried as well.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import hookloop
from hookloop import HookloopError, Trainer, attach
from hookloop.annotations import accepts
from hookloop.callback import constructor
from hookloop.discovery import installed

pytestmark = pytest.mark.reliability("G6")
X = torch.linspace(-1, 1, 8).reshape(-1, 1)
BAD = [-1, 0, -0.5, 2**70, math.nan, math.inf, -math.inf, True, "3", "x", None, [1], (0, -1)]
#: What a callback cannot do without.
NEEDS: dict[str, dict[str, Any]] = {
    "backup_and_restore": {"backup_dir": "backup"},
    "csv_logger": {"filename": "log.csv"},
    "checkpoint_copier": {"folder": "copies"},
    "learning_rate_scheduler": {"schedule": "step:step_size=1"},
    "model_checkpoint": {"filepath": "{epoch}.pt"},
    "remote_monitor": {"root": "http://127.0.0.1:9", "flush_timeout": 0.0},
}
#: Older names, which errors call by the newer one.
OLDER = {"epsilon": "min_delta"}
#: Settings of one that are numbers only together with another.
WITH = {("model_checkpoint", "initial_value_threshold"): {"save_best_only": True}}
MONITORS = ("early_stopping", "model_checkpoint", "reduce_lr_on_plateau", "best_metric")


def numeric(signature: inspect.Signature) -> Iterator[tuple[str, str]]:
    for name, parameter in signature.parameters.items():
        kinds = str(parameter.annotation).replace("|", " ").replace("[", " ").split()
        if {"int", "float"} & set(kinds):
            yield name, str(parameter.annotation)


PLUGINS = [
    (name, setting, annotation)
    for owners in installed().values()
    for name, plugin in ((owner.name, owner) for owner in owners)
    for setting, annotation in numeric(constructor(plugin.load()))
]


def train(*callbacks: Any) -> None:
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd", seed=0)
    trainer.fit(
        (X, X), epochs=2, batch_size=4, verbose=0, callbacks=callbacks, validation_split=0.5
    )


@pytest.mark.parametrize(("name", "setting", "annotation"), PLUGINS, ids=lambda part: part)
def test_a_number_of_a_plugin_is_refused_by_name_or_works(
    name: str, setting: str, annotation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chosen by name and made by hand, with every value that no such number has."""
    given = {**NEEDS.get(name, {}), **WITH.get((name, setting), {})}
    if name in MONITORS:
        given["monitor"] = "loss"
    for number, value in enumerate(BAD):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        settings = {**given, setting: value}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                chosen = hookloop.load(name, **settings)
        except HookloopError as error:
            named = {setting, OLDER.get(setting, setting)}
            if not any(one in str(error) for one in named) or "\nfix: " not in str(error):
                raise AssertionError(f"{setting}={value!r} is not named") from error
        else:
            assert not (isinstance(value, float) and math.isnan(value))
            assert not (type(value) is bool and not accepts(annotation, True)), value
            assert type(value) is not str or accepts(annotation, value), value
            if name != "tensorboard" or setting != "profile_batch":  # a profile takes its time
                _trains(chosen, setting, value)


def _trains(chosen: Any, setting: str, value: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            train(chosen)
        except HookloopError as error:
            if setting not in str(error):
                raise AssertionError(f"{setting}={value!r} is not named") from error


def _fit(name: str, value: Any) -> None:
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd", seed=0)
    more = {"validation_data": (X, X)} if name == "validation_freq" else {}
    trainer.fit((X, X), **{"verbose": 0, "epochs": 1, **more, name: value})


def _attach(name: str, value: Any) -> None:
    model = torch.nn.Linear(1, 1)
    given = {"epochs": 1, "verbose": 0, name: value}
    with attach(model, torch.optim.SGD(model.parameters(), lr=0.1), **given) as loop:
        for number, _ in enumerate(loop.epochs()):
            for x, _y in loop.batches([(X, X)]):
                loop.log(loss=model(x).sum())
            if number:
                break


def _evaluate(name: str, value: Any) -> None:
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd")
    trainer.evaluate((X, X), **{"verbose": 0, name: value})


def _predict(name: str, value: Any) -> None:
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd")
    trainer.predict(X, **{"verbose": 0, name: value})


def _make(name: str, value: Any) -> None:
    Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd", **{name: value})


CALLS = {
    "Trainer": (_make, Trainer),
    "fit": (_fit, Trainer.fit),
    "evaluate": (_evaluate, Trainer.evaluate),
    "predict": (_predict, Trainer.predict),
    "attach": (_attach, attach),
}
ARGUMENTS = [
    (where, name, annotation)
    for where, (_, function) in CALLS.items()
    for name, annotation in [*numeric(inspect.signature(function)), ("verbose", "Verbose")]
    if name in inspect.signature(function).parameters
]


@pytest.mark.parametrize(("where", "name", "annotation"), ARGUMENTS, ids=lambda part: part)
@pytest.mark.parametrize("value", BAD, ids=repr)
def test_a_number_of_ours_is_refused_by_name_or_works(
    where: str, name: str, annotation: str, value: Any
) -> None:
    """Of the trainer, its methods, and attach."""
    huge = value in (2**70, math.inf) and name in ("epochs", "initial_epoch", "steps_per_epoch")
    if huge and where != "attach" and name == "epochs" and value != math.inf:
        return  # a training without end is what was asked for
    try:
        CALLS[where][0](name, value)
    except HookloopError as error:
        assert name in str(error)  # noqa: PT017
        assert "\nfix: " in str(error)  # noqa: PT017
    else:
        assert type(value) not in (str, bool) or name == "verbose"
        assert not (isinstance(value, float) and not math.isfinite(value))
