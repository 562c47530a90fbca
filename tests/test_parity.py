"""Our callbacks decide what Keras's decide, but where that is not meant: ``make parity``.

`parity/results/` holds what Keras decided on seeded sequences; ours are given the same ones here.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import json
import math
import os
import re
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hookloop_remote_monitor._event import event

from hookloop import CallbackList, History, Logs, hookimpl, load
from hookloop.errors import SettingError

ROOT = Path(__file__).resolve().parent.parent
Case = dict[str, Any]


def _part(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"parity_{name}", ROOT / "parity" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


cases, differences, reference = _part("cases"), _part("differences"), _part("reference")

#: Sequences, those that give what Keras gave, and those that do not, by each difference that they
#: need; some need several.
COUNTS: dict[str, tuple[int, int, dict[str, int]]] = {
    "early_stopping": (
        800,
        716,
        {"baseline_enforced": 45, "double_precision": 13, "worst_is_never_best": 31},
    ),
    "model_checkpoint": (
        600,
        490,
        {
            "direction_known": 42,
            "double_precision": 16,
            "missing_is_na": 25,
            "missing_is_not_best": 37,
            "worst_is_never_best": 7,
        },
    ),
    "reduce_lr_on_plateau": (
        800,
        542,
        {"cooldown_counts": 225, "double_precision": 22, "worst_is_never_best": 30},
    ),
    "learning_rate_scheduler": (500, 404, {"any_number": 96}),
    "terminate_on_nan": (600, 563, {"epoch_is_looked_at": 37}),
    "csv_logger": (
        600,
        213,
        {
            "columns_grow": 207,
            "lists_are_plain": 169,
            "no_invented_columns": 65,
            "none_is_na": 92,
        },
    ),
    "history": (500, 387, {"begins_afresh": 113}),
    "lambda_callback": (
        500,
        324,
        {"by_position": 68, "end_sees_what_was_added": 70, "misspelt_is_refused": 51},
    ),
    "backup_and_restore": (
        500,
        317,
        {"deletes_its_own": 58, "goes_on_at_the_next_batch": 149},
    ),
    "remote_monitor": (
        600,
        396,
        {"arrays_are_lists": 116, "nan_is_null": 67, "numbers_are_floats": 43},
    ),
}


# -- our side -------------------------------------------------------------------------------------


class Model(torch.nn.Module):
    """A model whose weights are a number."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("number", torch.tensor(-1))

    @property
    def weights(self) -> int:
        return int(self.number)

    @weights.setter
    def weights(self, value: int) -> None:
        self.number.fill_(value)


class Rate(torch.optim.SGD):
    """An optimizer that has nothing but a learning rate."""

    def __init__(self, rate: float) -> None:
        super().__init__([torch.zeros(1)], lr=rate)


class Said:
    """Notes the lines that are shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_message(self, text: str) -> bool:
        self.lines.append(text)
        return True


def early_stopping(case: Case) -> Any:
    callback = load("early_stopping", monitor="val_loss", **case["settings"])
    model, waits, stopped = Model(), [], None
    run = CallbackList([callback], model=model)
    run.on_train_begin()
    for epoch, value in enumerate(case["values"]):
        model.weights = epoch
        run.on_epoch_end(epoch, {} if value is None else {"val_loss": value})
        waits.append(callback.wait)
        if run.loop.stop_training:
            stopped = epoch
            break
    model.weights = -1
    run.on_train_end()
    return {
        "stopped": stopped,
        "waits": waits,
        "best": callback.best,
        "best_epoch": callback.best_epoch,
        "restored": None if model.weights < 0 else model.weights,
    }


def reduce_lr_on_plateau(case: Case) -> Any:
    callback = load("reduce_lr_on_plateau", monitor="val_loss", **case["settings"])
    run = CallbackList([callback], model=None, optimizer=Rate(case["rate"]))
    run.on_train_begin()
    rates, logged = [], []
    for epoch, value in enumerate(case["values"]):
        logs = {"loss": 0.0} if value is None else {"val_loss": value}
        run.on_epoch_end(epoch, logs)
        rates.append(run.loop.lr)
        logged.append(logs["lr"])
    run.on_train_end()
    return {"rates": rates, "logged": logged, "best": callback.best}


class Saves:
    """Notes the files that are there when they have been saved."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @hookimpl(optionalhook=True)
    def on_checkpoint_saved(self, path: str) -> None:
        assert Path(path).is_file()
        self.names.append(path)

    def take(self) -> list[str]:
        names, self.names = self.names, []
        return names


def model_checkpoint(case: Case) -> Any:
    settings, batches = case["settings"], case["batches"]
    by_batch = settings["save_freq"] != "epoch"
    callback = load(
        "model_checkpoint",
        filepath=case["name"] + ".keras",
        save_weights_only=True,
        async_save=False,
        **settings,
    )
    saves, values = Saves(), iter(case["values"])
    for file in Path().glob("*.keras"):  # a new run heeds a better file of an older one
        file.unlink()
    run = CallbackList([callback, saves], model=Model())
    run.on_train_begin()
    saved: list[list[str]] = []
    more = {} if case["accuracy"] is None else {"accuracy": case["accuracy"]}

    def logs(value: float | None) -> dict[str, float]:
        return more | ({} if value is None else {settings["monitor"]: value})

    for epoch in range(case["epochs"]):
        run.on_epoch_begin(epoch)
        last = None
        for batch in range(batches):
            last = next(values) if by_batch else None
            run.on_train_batch_begin(batch)
            run.on_train_batch_end(batch, logs(last))
            if by_batch:
                saved.append(saves.take())
        run.on_epoch_end(epoch, logs(last if by_batch else next(values)))
        saved.append(saves.take())
    run.on_train_end()
    return {"saved": saved, "best": callback.best, "error": None}


def terminate_on_nan(case: Case) -> Any:
    said, stopped, error = Said(), None, None
    callback = load("terminate_on_nan", raise_error=case["raise_error"])
    run = CallbackList([callback, said], model=None)
    run.on_train_begin()
    try:
        for epoch, one in enumerate(case["epochs"]):
            run.on_epoch_begin(epoch)
            for batch, loss in enumerate(one["batches"]):
                run.on_train_batch_begin(batch)
                run.on_train_batch_end(batch, {} if loss is None else {"loss": loss})
                if run.loop.stop_training:
                    stopped = [epoch, batch]
                    break
            run.on_epoch_end(epoch, {} if one["loss"] is None else {"loss": one["loss"]})
            if run.loop.stop_training:
                stopped = stopped or [epoch, None]
                break
        run.on_train_end()
    except RuntimeError as raised:
        error = str(raised)
    return {"stopped": stopped, "error": error, "said": "\n".join(said.lines)}


def csv_logger(case: Case) -> Any:
    path = Path("log.csv")
    path.unlink(missing_ok=True)
    for one in case["runs"]:
        callback = load(
            "csv_logger", filename=path, separator=case["separator"], append=one["append"]
        )
        run = CallbackList([callback], model=None)
        run.on_train_begin()
        for epoch, row in enumerate(one["rows"]):
            run.on_epoch_end(epoch, dict(row))
        run.on_train_end()
    return path.read_bytes().decode()


def history(case: Case) -> Any:
    callback, seen = History(), []
    run = CallbackList([callback], model=None)
    for one in case["runs"]:
        run.on_train_begin()
        for epoch, row in enumerate(one["rows"], start=one["first"]):
            run.on_epoch_end(epoch, dict(row))
        run.on_train_end()
        seen.append({"epoch": list(callback.epoch), "history": dict(callback.history)})
    return seen


def lambda_callback(case: Case) -> Any:
    lines: list[str] = []
    try:
        made = [_lambda(index, one, lines) for index, one in enumerate(case["callbacks"])]
    except SettingError as raised:
        return {"lines": "", "error": type(raised).__name__}
    run = CallbackList(made, model=None)
    run.on_train_begin()
    for epoch in range(case["epochs"]):
        run.on_epoch_begin(epoch)
        for batch in range(case["batches"]):
            run.on_train_batch_begin(batch)
            run.on_train_batch_end(batch, {"loss": 1.0, "acc": 0.5})
        final = {"loss": 1.0, "acc": 0.5}
        if case["validates"]:
            run.on_test_begin()
            run.on_test_batch_begin(0)
            run.on_test_batch_end(0, {"loss": 2.0})
            run.on_test_end({"loss": 2.0})
            final["val_loss"] = 2.0
        run.on_epoch_end(epoch, final)
    run.on_train_end()
    if case["predicts"]:
        run.on_predict_begin()
        run.on_predict_batch_begin(0)
        run.on_predict_batch_end(0, {"outputs": 1.0})
        run.on_predict_end()
    return {"lines": " ".join(lines), "error": None}


def _lambda(index: int, one: Case, lines: list[str]) -> Any:
    functions = {hook: _function(index, hook, one, lines) for hook in one["hooks"]}
    if one["misspelt"]:
        functions["on_epoch_finish"] = lambda epoch, logs: lines.append("never")
    return load("lambda_callback", **functions)


def _function(index: int, hook: str, one: Case, lines: list[str]) -> Callable[..., None]:
    short = hook.removeprefix("on_").replace("train_batch", "batch")

    def note(position: Any, logs: Any) -> None:
        if hook == "on_epoch_end" and one["adds"]:
            logs[f"added{index}"] = 1.0
        lines.append(f"{index}{short}{position}:{','.join(sorted(logs))}")

    if cases.HOOKS.get(hook, 2) == 1:
        return lambda logs: note("", logs)

    def of_epoch(epoch: int, logs: Any) -> None:
        note(epoch, logs)

    def of_batch(batch: int, logs: Any) -> None:
        note(batch, logs)

    def of_place(b: int, values: Any) -> None:
        note(b, values)

    return of_place if one["positional"] else of_epoch if "epoch" in hook else of_batch


def learning_rate_scheduler(case: Case) -> Any:
    callback = load("learning_rate_scheduler", schedule=cases.SCHEDULES[case["schedule"]])
    optimizer, said = Rate(case["rate"]), Said()  # it says that others set the rate, too
    run = CallbackList([callback, said], model=None, optimizer=optimizer)
    run.on_train_begin()
    rates, logged = [], []
    for epoch in range(case["first"], case["first"] + case["epochs"]):
        run.on_epoch_begin(epoch)
        rates.append(run.loop.lr)
        logs = {"loss": 0.0}
        run.on_epoch_end(epoch, logs)
        logged.append(logs["lr"])
        other = case["others"][epoch % 10]
        if other is not None:
            optimizer.param_groups[0]["lr"] = other
    run.on_train_end()
    return {"rates": rates, "logged": logged, "error": None}


class CrashError(Exception):
    """What ends a run of a case before its time."""


def backup_and_restore(case: Case) -> Any:
    folder = Path("backup")
    other = folder / "mine.txt"
    runs = [_backed_up(case, folder, case["crash"])]
    if runs[0]["crashed"]:
        if case["other_file"]:
            folder.mkdir(exist_ok=True)
            other.write_text("not of the backup")
        runs.append(_backed_up(case, folder, None))
    left = {"backup": any(folder.glob("state*")), "other": other.exists()}
    shutil.rmtree(folder, ignore_errors=True)
    return {"runs": runs, **left}


def _backed_up(case: Case, folder: Path, crash: list[int] | None) -> Any:
    settings = {key: case[key] for key in ("save_freq", "delete_checkpoint")}
    callback = load("backup_and_restore", backup_dir=folder, async_save=False, **settings)
    model, trained = Model(), []
    model.weights = 0
    run = CallbackList([callback, Said()], model=model)
    run.on_train_begin()
    begins_with: int | None = None
    epoch, begin = run.loop.start
    try:
        while epoch < case["epochs"]:
            run.on_epoch_begin(epoch)
            begins_with = model.weights if begins_with is None else begins_with
            for batch in range(begin, case["batches"]):
                run.on_train_batch_begin(batch)
                model.weights += 1
                trained.append([epoch, batch])
                if crash == [epoch, batch]:
                    raise CrashError
                run.on_train_batch_end(batch, {"loss": 1.0})
            if crash == [epoch, case["batches"]]:
                raise CrashError
            run.on_epoch_end(epoch, {"loss": 1.0})
            epoch, begin = epoch + 1, 0
        if case["ends_by"] == "stopping":
            run.loop.stop("the case says so")
        run.on_train_end()
    except CrashError as error:
        run.on_exception(error)
        return {"weights": begins_with, "trained": trained, "crashed": True}
    begins_with = model.weights if begins_with is None else begins_with
    return {"weights": begins_with, "trained": trained, "crashed": False}


def remote_monitor(case: Case) -> Any:
    """What would be posted; that it is, the tests of the plugin show with a real server."""
    callback = load("remote_monitor", field=case["field"], send_as_json=case["send_as_json"])
    logs = Logs({name: _array(value) for name, value in case["logs"].items()})
    send = {"epoch": case["epoch"], **logs}
    made = event("key", send, callback.field, as_json=callback.send_as_json)
    return {"url": callback.root + callback.path, "body": made.body}


def _array(value: Any) -> Any:
    if not cases.is_array(value):
        return value
    dimensions, numbers = value
    return np.array(numbers if dimensions else numbers[0])


# -- comparing ------------------------------------------------------------------------------------


def same(a: Any, b: Any, rates: bool = False) -> bool:
    """Tell whether two results are equal; rates, which Keras keeps in single precision, to that."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(
            same(a[key], b[key], key in ("rates", "logged")) for key in a
        )
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y, rates) for x, y in zip(a, b, strict=True))
    if rates and isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-6)
    return bool(a == b)


@cache
def kept(callback: str) -> dict[str, Any]:
    return json.loads((ROOT / "parity" / "results" / f"{callback}.json").read_text("utf-8"))


def formula(callback: str, case: Case, flags: Any = frozenset()) -> Any:
    return cases.plain(getattr(reference, callback)(case, frozenset(flags)))


def applying(callback: str, case: Case) -> list[str]:
    return [d.id for d in differences.ALL if d.callback == callback and d.applies(case)]


def seen(callback: str, case: Case, result: Any) -> Any:
    """Give what is counted: of a CSV file what a reader of its rows finds in it."""
    if callback != "csv_logger":
        return result
    return list(csv.DictReader(io.StringIO(result), delimiter=case["separator"]))


def needed(callback: str, case: Case, ours: Any) -> list[str]:
    """Name the differences without which the formula does not give what ours gives.

    Where two of them come to the same, so that neither is needed, both are named.
    """
    ids, result = applying(callback, case), seen(callback, case, ours)
    without = {one: formula(callback, case, {*ids} - {one}) for one in ids}
    alone = {one: formula(callback, case, {one}) for one in ids}
    found = [one for one in ids if not same(seen(callback, case, without[one]), result)]
    keras = seen(callback, case, formula(callback, case))
    return found or [one for one in ids if not same(seen(callback, case, alone[one]), keras)]


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own; no warnings, as metrics are missing; no waiting for the disk."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore", UserWarning)
        yield


@pytest.mark.parametrize("callback", cases.MAKERS)
def test_the_formulas_give_what_keras_gave(callback: str) -> None:
    """What the differences are measured from is Keras itself, on every sequence."""
    made, found = cases.make(callback), kept(callback)
    assert found["digest"] == cases.digest(made), "the sequences have changed: make parity"

    wrong = [
        (case, keras, formula(callback, case))
        for case, keras in zip(made, found["results"], strict=True)
        if not same(formula(callback, case), keras)
    ]

    assert len(made) >= 500
    assert wrong[:1] == []


@pytest.mark.parametrize("callback", [name for name in cases.MAKERS if name in COUNTS])
def test_ours_decide_as_keras_does_or_as_is_listed(callback: str, quiet: None) -> None:
    """Each result is Keras's, or exactly what the listed differences of its case make of it."""
    equal, reasons, wrong = 0, Counter[str](), []
    made = cases.make(callback)
    for case, keras in zip(made, kept(callback)["results"], strict=True):
        ours = cases.plain(globals()[callback](case))
        if same(seen(callback, case, ours), seen(callback, case, keras)):
            equal += 1
        else:
            reasons.update(needed(callback, case, ours))
        meant = keras if same(ours, keras) else formula(callback, case, applying(callback, case))
        if not same(ours, meant):
            wrong.append((case, keras, ours, meant))

    assert wrong[:1] == []
    assert (len(made), equal, dict(sorted(reasons.items()))) == COUNTS[callback]


@pytest.mark.parametrize("difference", differences.ALL, ids=lambda d: f"{d.callback}-{d.id}")
def test_every_listed_difference_is_one(difference: Any) -> None:
    """No excuse is kept that nothing needs: each changes what the formula gives somewhere."""
    made = [case for case in cases.make(difference.callback) if difference.applies(case)]
    changed = [
        case
        for case in made
        if formula(difference.callback, case) != formula(difference.callback, case, {difference.id})
    ]

    assert changed


# -- what the page says ---------------------------------------------------------------------------


def _class(callback: str) -> str:
    return next(keras for keras, name in _KERAS.items() if name == callback)


_KERAS = {
    "EarlyStopping": "early_stopping",
    "ModelCheckpoint": "model_checkpoint",
    "ReduceLROnPlateau": "reduce_lr_on_plateau",
    "LearningRateScheduler": "learning_rate_scheduler",
    "TerminateOnNaN": "terminate_on_nan",
    "CSVLogger": "csv_logger",
    "History": "history",
    "LambdaCallback": "lambda_callback",
    "BackupAndRestore": "backup_and_restore",
    "RemoteMonitor": "remote_monitor",
}


def counted() -> list[str]:
    """The rows of the table of numbers."""
    rows = []
    for callback, (total, equal, reasons) in COUNTS.items():
        why = ", ".join(f"`{one}` {count}" for one, count in reasons.items()) or "-"
        rows.append(f"| `{_class(callback)}` | {total} | {equal} | {total - equal} | {why} |")
    return rows


def explained() -> list[str]:
    """The rows of the table of reasons."""
    callbacks: dict[tuple[str, str], list[str]] = {}
    for one in differences.ALL:
        callbacks.setdefault((one.id, one.reason), []).append(f"`{_class(one.callback)}`")
    return [f"| `{id}` | {', '.join(of)} | {why} |" for (id, why), of in callbacks.items()]


def test_the_page_for_keras_users_has_these_numbers_and_reasons() -> None:
    """docs/keras.md tells what is compared here, and nothing else."""
    page = (ROOT / "docs" / "keras.md").read_text(encoding="utf-8")
    section = page.partition("\n## Parity\n")[2].partition("\n## ")[0]
    keras = {kept(callback)["keras"] for callback in cases.MAKERS}
    rows = [row for row in section.splitlines() if re.match(r"\| `", row)]

    assert rows == [*counted(), *explained()]
    assert f"Keras {', '.join(keras)}" in section
    assert f"seed {cases.SEED}" in section


#: Every argument that a constructor of any generation of Keras has had, as its documents have it.
ARGUMENTS = {
    "BackupAndRestore": "backup_dir save_freq double_checkpoint delete_checkpoint "
    "save_before_preemption",
    "BaseLogger": "stateful_metrics",
    "CSVLogger": "filename separator append",
    "EarlyStopping": "monitor min_delta patience verbose mode baseline restore_best_weights "
    "start_from_epoch",
    "LearningRateScheduler": "schedule verbose",
    "ModelCheckpoint": "filepath monitor verbose save_best_only save_weights_only mode save_freq "
    "initial_value_threshold period options load_weights_on_restart",
    "ProgbarLogger": "count_mode stateful_metrics",
    "ReduceLROnPlateau": "monitor factor patience verbose mode min_delta cooldown min_lr epsilon",
    "RemoteMonitor": "root path field headers send_as_json",
    "SwapEMAWeights": "swap_on_epoch",
    "TensorBoard": "log_dir histogram_freq batch_size write_graph write_grads write_images "
    "write_steps_per_second update_freq profile_batch embeddings_freq embeddings_layer_names "
    "embeddings_metadata embeddings_data",
    "TerminateOnNaN": "raise_error",
}


@pytest.mark.parametrize("keras", ARGUMENTS)
def test_the_page_for_keras_users_has_every_argument_of_keras(keras: str) -> None:
    """Whoever looks an argument up finds what it is here, or why it is refused."""
    page = (ROOT / "docs" / "keras.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {keras}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}

    assert set(ARGUMENTS[keras].split()) - named == set()
