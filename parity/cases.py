"""The sequences that Keras's callbacks and ours are given: the same ones, from a seed.

Used by `drive.py`, which runs where Keras is, and by `tests/test_parity.py`, which runs where it is
not; so it imports nothing but the standard library. Only `Random.random` is drawn from, whose
numbers are the same in every version of Python.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

SEED = 3
Case = dict[str, Any]

NAN, INF = math.nan, math.inf


class Dice:
    """Draws, from a seed."""

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def whole(self, low: int, high: int) -> int:
        """Draw a whole number, both ends included."""
        return low + int(self._random.random() * (high - low + 1))

    def one(self, choices: Sequence[Any]) -> Any:
        return choices[self.whole(0, len(choices) - 1)]

    def some(self, choices: Sequence[Any], probability: float) -> list[Any]:
        return [choice for choice in choices if self.chance(probability)]

    def eighths(self, low: int = -8, high: int = 24) -> float:
        """Draw a multiple of 1/8: exact in single precision too, and often a tie."""
        return self.whole(low, high) / 8


def metrics(dice: Dice, epochs: int) -> list[float | None]:
    """Draw the values of a metric; None where it was not reported.

    A quarter of the sequences hold values that are not finite, a quarter lack values, and a tenth
    differ by less than single precision can tell.
    """
    fine = 1e-9 if dice.chance(0.1) else 0.0
    odd = [NAN, INF, -INF] if dice.chance(0.25) else []
    holes = 0.2 if dice.chance(0.25) else 0.0
    falling = dice.chance(0.5)
    values: list[float | None] = []
    for epoch in range(epochs):
        value = 1.0 + fine * dice.whole(-9, 9) if fine else dice.eighths()
        if falling and not fine:
            value = (epochs - epoch) / 4 + dice.eighths(-4, 4)
        if odd and dice.chance(0.3):
            value = dice.one(odd)
        values.append(None if dice.chance(holes) else value)
    return values


def early_stopping(dice: Dice) -> Case:
    settings = {
        "patience": dice.one([0, 0, 1, 1, 2, 3, 4]),
        "min_delta": dice.one([0.0, 0.0, 0.125, 0.5, -0.25]),
        "mode": dice.one(["min", "max", "auto"]),
        "baseline": dice.one([None, None, None, 0.5, 1.0, 2.0]),
        "start_from_epoch": dice.one([0, 0, 0, 1, 3]),
        "restore_best_weights": dice.chance(0.6),
    }
    return {"settings": settings, "values": metrics(dice, dice.whole(4, 14))}


def reduce_lr_on_plateau(dice: Dice) -> Case:
    settings = {
        "factor": dice.one([0.1, 0.5, 0.5, 0.9]),
        "patience": dice.one([0, 1, 1, 2, 3]),
        "min_delta": dice.one([1e-4, 0.0, 0.125, -0.25]),
        "mode": dice.one(["min", "max", "auto"]),
        "cooldown": dice.one([0, 0, 0, 1, 2, 3]),
        "min_lr": dice.one([0.0, 0.0, 0.01, 0.25]),
    }
    rate = dice.one([1.0, 0.5, 0.1])
    return {"settings": settings, "rate": rate, "values": metrics(dice, dice.whole(6, 18))}


def model_checkpoint(dice: Dice) -> Case:
    by_batch = dice.chance(0.4)
    best_only = dice.chance(0.5)
    monitor = "loss" if by_batch else "val_loss"
    names = ["{epoch:02d}", "{epoch}-{" + monitor + ":.2f}", "best", "{epoch}-{accuracy:.1f}"]
    if by_batch:
        names += ["{epoch}-{batch}", "{epoch}-{batch:03d}"]
    settings = {
        "monitor": monitor,
        "save_best_only": best_only,
        "mode": dice.one(["min", "max", "auto"]),
        "save_freq": dice.whole(1, 5) if by_batch else "epoch",
        "initial_value_threshold": dice.one([None, None, 0.5, 1.0, 2.0]) if best_only else None,
    }
    batches, epochs = dice.whole(1, 4), dice.whole(2, 6)
    values = metrics(dice, epochs * batches if by_batch else epochs)
    without_accuracy = dice.chance(0.1)
    return {
        "settings": settings,
        "name": dice.one(names),
        "epochs": epochs,
        "batches": batches,
        "values": values,
        "accuracy": None if without_accuracy else dice.eighths(0, 8),
    }


#: Name, whether it takes the rate, and what it gives for the epoch and the rate.
SCHEDULES: dict[str, Callable[..., Any]] = {
    "constant": lambda epoch: 0.25,
    "halves": lambda epoch, lr: lr * 0.5,
    "halves_from_3": lambda epoch, lr: lr if epoch < 3 else lr * 0.5,
    "decays_from_2": lambda epoch, lr: lr if epoch < 2 else lr * math.exp(-0.1),
    "inverse": lambda epoch: 1.0 / (epoch + 1),
    "steps": lambda epoch: [0.5, 0.25, 0.125][min(epoch // 2, 2)],
    "whole": lambda epoch: 1,
    "whole_from_2": lambda epoch: 0.5 if epoch < 2 else 1,
    "zero": lambda epoch, lr: 0.0,
    "grows": lambda epoch, lr: lr * 1.5,
}


def learning_rate_scheduler(dice: Dice) -> Case:
    return {
        "schedule": dice.one(list(SCHEDULES)),
        "rate": dice.whole(1, 64) / 64,
        "first": dice.one([0, 0, 0, 1, 2, 5]),
        "epochs": dice.whole(1, 10),
        # What somebody else sets between two epochs; the schedule is given it.
        "others": [dice.whole(1, 64) / 64 if dice.chance(0.1) else None for _ in range(10)],
    }


def terminate_on_nan(dice: Dice) -> Case:
    batches = dice.whole(1, 4)
    bad = dice.one([0.0, 0.05, 0.2])
    missing = dice.one([0.0, 0.0, 0.3])
    epochs = []
    for _ in range(dice.whole(1, 5)):
        losses: list[float | None] = [
            None
            if dice.chance(missing)
            else dice.one([NAN, INF, -INF])
            if dice.chance(bad)
            else dice.eighths()
            for _ in range(batches)
        ]
        known = [loss for loss in losses if loss is not None]
        mean = sum(known) / len(known) if known else None
        if dice.chance(0.03):
            mean = dice.one([NAN, INF])
        epochs.append({"batches": losses, "loss": mean})
    return {"raise_error": dice.chance(0.3), "epochs": epochs}


def csv_logger(dice: Dice) -> Case:
    names = ["loss", "accuracy", "val_loss", "val_accuracy", "mae", "top,5"]
    runs = []
    for index in range(dice.one([1, 1, 2])):
        keys = dice.some(names, 0.6)
        changing = dice.chance(0.2)
        rows = []
        for _ in range(dice.whole(1, 4)):
            here = dice.some(names, 0.6) if changing else keys
            rows.append({key: _cell(dice) for key in here})
        runs.append({"append": index > 0 and dice.chance(0.7), "rows": rows})
    return {"separator": dice.one([",", ",", ";", "\t"]), "runs": runs}


def _cell(dice: Dice) -> Any:
    if dice.chance(0.85):
        return dice.eighths()
    return dice.one([NAN, INF, 3, 1e-7, [1, 2], [0.5], None, "text", 'a "b"', "x;y"])


def history(dice: Dice) -> Case:
    names = ["loss", "accuracy", "val_loss", "lr"]
    runs = []
    for _ in range(dice.one([1, 1, 2])):
        first = dice.one([0, 0, 3])
        keys, changing = dice.some(names, 0.7), dice.chance(0.3)
        rows = []
        for _ in range(dice.whole(0, 5)):
            here = dice.some(names, 0.7) if changing else keys
            rows.append({key: dice.one([dice.eighths(), NAN, INF, 2]) for key in here})
        runs.append({"first": first, "rows": rows})
    return {"runs": runs}


#: Hooks of a LambdaCallback, with the number of their arguments.
HOOKS = {
    "on_train_begin": 1,
    "on_train_end": 1,
    "on_epoch_begin": 2,
    "on_epoch_end": 2,
    "on_train_batch_begin": 2,
    "on_train_batch_end": 2,
    "on_test_begin": 1,
    "on_test_end": 1,
    "on_test_batch_begin": 2,
    "on_test_batch_end": 2,
    "on_predict_begin": 1,
    "on_predict_end": 1,
    "on_predict_batch_begin": 2,
    "on_predict_batch_end": 2,
}
OLDER = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}


def lambda_callback(dice: Dice) -> Case:
    callbacks = []
    for _ in range(dice.whole(1, 3)):
        hooks = []
        for hook in dice.some(list(HOOKS), 0.35):
            older = hook in OLDER and dice.chance(0.3)
            hooks.append(OLDER[hook] if older else hook)
        callbacks.append(
            {
                "hooks": hooks,
                "adds": "on_epoch_end" in hooks and dice.chance(0.4),
                "positional": dice.chance(0.1),
                "misspelt": dice.chance(0.06),
            }
        )
    return {
        "callbacks": callbacks,
        "epochs": dice.whole(1, 2),
        "batches": dice.whole(1, 2),
        "validates": dice.chance(0.5),
        "predicts": dice.chance(0.2),
    }


def backup_and_restore(dice: Dice) -> Case:
    epochs, batches = dice.whole(1, 4), dice.whole(1, 4)
    crash = None
    if dice.chance(0.8):
        # Before the hooks of that batch's end; a batch index of `batches` is the epoch's end.
        crash = [dice.whole(0, epochs - 1), dice.whole(0, batches)]
    return {
        "save_freq": dice.one(["epoch", "epoch", 1, 2, 3, 5]),
        "delete_checkpoint": dice.chance(0.7),
        "epochs": epochs,
        "batches": batches,
        "crash": crash,
        "ends_by": dice.one(["finishing", "finishing", "stopping"]),
        "other_file": dice.chance(0.2),
    }


def remote_monitor(dice: Dice) -> Case:
    logs = {}
    for name in dice.some(["loss", "accuracy", "val_loss", "top,5", "médiane & co", "note"], 0.5):
        # A pair is an array: its number of dimensions, and its numbers.
        odd = [NAN, INF, 3, None, True, "a=b&c d+é", [1, 2.5], [0, [0.5]], [0, [2]]]
        odd += [[1, [0.25]], [1, [0.25, 4.0]], [1, [1, 2]]]
        logs[name] = dice.one(odd) if dice.chance(0.25) else dice.eighths()
    return {
        "epoch": dice.whole(0, 200),
        "field": dice.one(["data", "data", "my field"]),
        "send_as_json": dice.chance(0.5),
        "logs": logs,
    }


def is_array(value: Any) -> bool:
    """Tell whether a logged value of a case stands for an array."""
    return isinstance(value, list) and isinstance(value[1], list)


MAKERS: dict[str, tuple[Callable[[Dice], Case], int]] = {
    "early_stopping": (early_stopping, 800),
    "model_checkpoint": (model_checkpoint, 600),
    "reduce_lr_on_plateau": (reduce_lr_on_plateau, 800),
    "learning_rate_scheduler": (learning_rate_scheduler, 500),
    "terminate_on_nan": (terminate_on_nan, 600),
    "csv_logger": (csv_logger, 600),
    "history": (history, 500),
    "lambda_callback": (lambda_callback, 500),
    "backup_and_restore": (backup_and_restore, 500),
    "remote_monitor": (remote_monitor, 600),
}


def make(callback: str) -> list[Case]:
    """Make the cases of a callback, always the same ones."""
    maker, count = MAKERS[callback]
    dice = Dice(f"{SEED} {callback}")
    return [maker(dice) for _ in range(count)]


def plain(value: Any) -> Any:
    """Write a result so that it is plain JSON, equal to itself, and short: NaN becomes text."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def digest(cases: Sequence[Case]) -> str:
    """Give a sum of cases, by which a result knows what it is a result of."""
    return hashlib.sha256(json.dumps(plain(list(cases))).encode()).hexdigest()[:16]
