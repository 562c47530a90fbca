"""Give Keras's callbacks the sequences of `cases.py`, and write what they decide to `results/`.

Runs in an environment with Keras: ``make parity``. No model is trained: hooks are called as
Keras's `fit` calls them, on a stand-in for the model that notes what is done to it.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import cases
import keras
import numpy as np
import requests
import torch
from cases import Case, plain
from keras import callbacks as kc

RESULTS = Path(__file__).resolve().parent / "results"


class Model:
    """What the callbacks touch of a model; its weights are the number of the epoch or batch."""

    built = True
    optimizer: Any = None
    stop_training = False
    _initial_epoch: int | None = None

    def __init__(self) -> None:
        self.weights = -1
        self.restored: int | None = None
        self.saved: list[str] = []

    def get_weights(self) -> int:
        return self.weights

    def set_weights(self, weights: int) -> None:
        self.weights = self.restored = weights

    def save(self, path: str, overwrite: bool) -> None:
        self.saved.append(os.path.basename(path))

    def save_weights(self, filepath: str, overwrite: bool) -> None:
        Path(filepath).write_text(str(self.weights))

    def load_weights(self, filepath: str) -> None:
        self.weights = int(Path(filepath).read_text())


def start(callback: Any, model: Any = None) -> Any:
    model = Model() if model is None else model
    callback.set_model(model)
    callback.set_params({"verbose": 0, "epochs": 1, "steps": 1})
    callback.on_train_begin()
    return model


def early_stopping(case: Case) -> Any:
    callback = kc.EarlyStopping(monitor="val_loss", **case["settings"])
    model, waits, stopped = start(callback), [], None
    for epoch, value in enumerate(case["values"]):
        model.weights = epoch
        callback.on_epoch_end(epoch, {} if value is None else {"val_loss": value})
        waits.append(callback.wait)
        if model.stop_training:
            stopped = epoch
            break
    callback.on_train_end()
    return {
        "stopped": stopped,
        "waits": waits,
        "best": callback.best,
        "best_epoch": callback.best_epoch,
        "restored": model.restored,
    }


def reduce_lr_on_plateau(case: Case) -> Any:
    callback = kc.ReduceLROnPlateau(monitor="val_loss", **case["settings"])
    model = Model()
    model.optimizer = keras.optimizers.SGD(case["rate"])
    start(callback, model)
    rates, logged = [], []
    for epoch, value in enumerate(case["values"]):
        logs = {"loss": 0.0} if value is None else {"val_loss": value}
        callback.on_epoch_end(epoch, logs)
        rates.append(_short(float(model.optimizer.learning_rate)))
        logged.append(_short(logs["learning_rate"]))
    callback.on_train_end()
    return {"rates": rates, "logged": logged, "best": callback.best}


def _short(rate: float) -> float:
    """Cut a rate to the digits that single precision holds."""
    return float(f"{rate:.7g}")


def model_checkpoint(case: Case) -> Any:
    settings, batches = case["settings"], case["batches"]
    by_batch = settings["save_freq"] != "epoch"
    name, values, model = case["name"] + ".keras", iter(case["values"]), Model()
    callback = kc.ModelCheckpoint(name, **settings)
    start(callback, model)
    saved: list[list[str]] = []  # at each batch if it saves by batches, and at each epoch
    more = {} if case["accuracy"] is None else {"accuracy": case["accuracy"]}

    def logs(value: float | None) -> dict[str, float]:
        return more | ({} if value is None else {settings["monitor"]: value})

    def take() -> None:
        saved.append(model.saved)
        model.saved = []

    try:
        for epoch in range(case["epochs"]):
            callback.on_epoch_begin(epoch)
            last = None
            for batch in range(batches):
                last = next(values) if by_batch else None
                callback.on_train_batch_end(batch, logs(last))
                if by_batch:
                    take()
            callback.on_epoch_end(epoch, logs(last if by_batch else next(values)))
            take()
        callback.on_train_end()
        error = None
    except (KeyError, TypeError) as raised:
        error = type(raised).__name__
    return {"saved": saved, "best": callback.best, "error": error}


def learning_rate_scheduler(case: Case) -> Any:
    callback = kc.LearningRateScheduler(cases.SCHEDULES[case["schedule"]])
    model = Model()
    model.optimizer = keras.optimizers.SGD(case["rate"])
    start(callback, model)
    rates, logged, error = [], [], None
    try:
        for epoch in range(case["first"], case["first"] + case["epochs"]):
            callback.on_epoch_begin(epoch)
            rates.append(_short(float(model.optimizer.learning_rate)))
            logs = {"loss": 0.0}
            callback.on_epoch_end(epoch, logs)
            logged.append(_short(logs["learning_rate"]))
            other = case["others"][epoch % 10]
            if other is not None:
                model.optimizer.learning_rate = other
        callback.on_train_end()
    except ValueError as raised:
        error = type(raised).__name__
    return {"rates": rates, "logged": logged, "error": error}


def terminate_on_nan(case: Case) -> Any:
    callback = kc.TerminateOnNaN(raise_error=case["raise_error"])
    model, stopped, error = start(callback), None, None
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            for epoch, one in enumerate(case["epochs"]):
                callback.on_epoch_begin(epoch)
                for batch, loss in enumerate(one["batches"]):
                    callback.on_train_batch_end(batch, {} if loss is None else {"loss": loss})
                    if model.stop_training:
                        stopped = [epoch, batch]
                        break
                callback.on_epoch_end(epoch, {} if one["loss"] is None else {"loss": one["loss"]})
                if model.stop_training:
                    break
            callback.on_train_end()
        except RuntimeError as raised:
            error = str(raised)
    return {"stopped": stopped, "error": error, "said": said.getvalue().strip()}


def csv_logger(case: Case) -> Any:
    path = Path("log.csv")
    path.unlink(missing_ok=True)
    for run in case["runs"]:
        callback = kc.CSVLogger(path, separator=case["separator"], append=run["append"])
        start(callback)
        for epoch, row in enumerate(run["rows"]):
            callback.on_epoch_end(epoch, dict(row))
        callback.on_train_end()
    return path.read_bytes().decode()


def history(case: Case) -> Any:
    callback, seen = kc.History(), []
    for run in case["runs"]:
        start(callback)
        for epoch, row in enumerate(run["rows"], start=run["first"]):
            callback.on_epoch_end(epoch, dict(row))
        callback.on_train_end()
        seen.append({"epoch": callback.epoch, "history": dict(callback.history)})
        seen[-1] = json.loads(json.dumps(plain(seen[-1])))
    return seen


def lambda_callback(case: Case) -> Any:
    lines: list[str] = []
    made = [_lambda(index, one, lines) for index, one in enumerate(case["callbacks"])]
    driver = kc.CallbackList(made, model=Model(), verbose=0, epochs=1, steps=1)
    try:
        script(driver, case)
        error = None
    except TypeError as raised:
        error = type(raised).__name__
    return {"lines": " ".join(lines), "error": error}


def _lambda(index: int, one: Case, lines: list[str]) -> Any:
    functions = {hook: _function(index, hook, one, lines) for hook in one["hooks"]}
    if one["misspelt"]:
        functions["on_epoch_finish"] = lambda epoch, logs: lines.append("never")
    return kc.LambdaCallback(**functions)


def _function(index: int, hook: str, one: Case, lines: list[str]) -> Callable[..., None]:
    if cases.HOOKS.get(hook, 2) == 1:
        return lambda logs: lines.append(line(index, hook, "", logs))

    def indexed(position: int, logs: dict[str, float]) -> None:
        if hook == "on_epoch_end" and one["adds"]:
            logs[f"added{index}"] = 1.0
        lines.append(line(index, hook, position, logs))

    return renamed(hook, indexed, one["positional"])


def renamed(hook: str, function: Callable[..., None], positional: bool) -> Callable[..., None]:
    """Give a function the parameters that Keras names, or others."""

    def of_epoch(epoch: int, logs: Any) -> None:
        function(epoch, logs)

    def of_batch(batch: int, logs: Any) -> None:
        function(batch, logs)

    def of_place(b: int, values: Any) -> None:
        function(b, values)

    return of_place if positional else of_epoch if "epoch" in hook else of_batch


def line(index: int, hook: str, position: Any, logs: Any) -> str:
    short = hook.removeprefix("on_").replace("train_batch", "batch")
    return f"{index}{short}{position}:{','.join(sorted(logs or {}))}"


def script(driver: Any, case: Case) -> None:
    """Call the hooks of a run, as `fit` does."""
    driver.on_train_begin()
    final: dict[str, float] = {}
    for epoch in range(case["epochs"]):
        driver.on_epoch_begin(epoch)
        for batch in range(case["batches"]):
            driver.on_train_batch_begin(batch)
            driver.on_train_batch_end(batch, {"loss": 1.0, "acc": 0.5})
        final = {"loss": 1.0, "acc": 0.5}
        if case["validates"]:
            driver.on_test_begin()
            driver.on_test_batch_begin(0)
            driver.on_test_batch_end(0, {"loss": 2.0})
            driver.on_test_end({"loss": 2.0})
            final["val_loss"] = 2.0
        driver.on_epoch_end(epoch, dict(final))
    driver.on_train_end(final)
    if case["predicts"]:
        driver.on_predict_begin()
        driver.on_predict_batch_begin(0)
        driver.on_predict_batch_end(0, {"outputs": 1.0})
        driver.on_predict_end()


class CrashError(Exception):
    """What ends a run of a case before its time."""


def backup_and_restore(case: Case) -> Any:
    folder = Path("backup")
    runs = [_backed_up(case, folder, case["crash"])]
    other = folder / "mine.txt"
    if runs[0]["crashed"]:
        if case["other_file"]:
            folder.mkdir(exist_ok=True)
            other.write_text("not of the backup")
        runs.append(_backed_up(case, folder, None))
    left = {"backup": any(folder.glob("latest*")), "other": other.exists()}
    for file in folder.glob("*"):
        file.unlink()
    if folder.exists():
        folder.rmdir()
    return {"runs": runs, **left}


def _backed_up(case: Case, folder: Path, crash: list[int] | None) -> Any:
    callback = kc.BackupAndRestore(
        folder, save_freq=case["save_freq"], delete_checkpoint=case["delete_checkpoint"]
    )
    model = Model()
    model.weights = 0
    start(callback, model)
    first, begins_with, trained, crashed = model._initial_epoch or 0, model.weights, [], False
    try:
        for epoch in range(first, case["epochs"]):
            callback.on_epoch_begin(epoch)
            for batch in range(case["batches"]):
                callback.on_train_batch_begin(batch)
                model.weights += 1
                trained.append([epoch, batch])
                if crash == [epoch, batch]:
                    raise CrashError
                callback.on_train_batch_end(batch, {"loss": 1.0})
            if crash == [epoch, case["batches"]]:
                raise CrashError
            callback.on_epoch_end(epoch, {"loss": 1.0})
        model.stop_training = case["ends_by"] == "stopping"
        callback.on_train_end()
    except CrashError:
        crashed = True
    return {"weights": begins_with, "trained": trained, "crashed": crashed}


def remote_monitor(case: Case) -> Any:
    settings = {key: case[key] for key in ("field", "send_as_json")}
    callback = kc.RemoteMonitor(**settings)
    logs = {name: _array(value) for name, value in case["logs"].items()}
    sent: list[requests.PreparedRequest] = []

    def post(url: str, data: Any = None, json: Any = None, headers: Any = None) -> None:
        sent.append(requests.Request("POST", url, data=data, json=json, headers=headers).prepare())

    original, requests.post = requests.post, post
    try:
        callback.on_epoch_end(case["epoch"], logs)
    except (TypeError, ValueError) as raised:
        return {"error": type(raised).__name__}
    finally:
        requests.post = original
    if not sent:
        return {"error": "not sent"}
    body = sent[0].body
    return {"url": sent[0].url, "body": body.decode() if isinstance(body, bytes) else body}


def _array(value: Any) -> Any:
    if not cases.is_array(value):
        return value
    dimensions, numbers = value
    return np.array(numbers if dimensions else numbers[0])


def everything() -> Iterator[tuple[str, Any]]:
    for name in cases.MAKERS:
        made = cases.make(name)
        yield (
            name,
            {
                "keras": keras.__version__,
                "torch": torch.__version__.partition("+")[0],
                "seed": cases.SEED,
                "digest": cases.digest(made),
                "results": [plain(globals()[name](case)) for case in made],
            },
        )


def write(name: str, found: dict[str, Any]) -> None:
    """Write a result, a case a line, so that a change shows where it is."""
    head = json.dumps({key: value for key, value in found.items() if key != "results"})
    rows = ",\n".join(json.dumps(one, separators=(",", ":")) for one in found["results"])
    (RESULTS / f"{name}.json").write_text(f'{head[:-1]}, "results": [\n{rows}\n]}}\n')


def main() -> None:
    RESULTS.mkdir(exist_ok=True)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    summary = SimpleNamespace(size=0)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, found in everything():
            write(name, found)
            size = (RESULTS / f"{name}.json").stat().st_size
            summary.size += size
            print(f"{name:24} {len(found['results']):4} sequences {size / 1024:7.0f} KiB")
    print(f"{'':24} {summary.size / 1024:22.0f} KiB, Keras {keras.__version__}")


if __name__ == "__main__":
    main()
