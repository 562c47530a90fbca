"""Where hookloop decides otherwise than Keras, on purpose: all of it, with the reasons.

`tests/test_parity.py` excuses a result that is not Keras's only where a difference of this list
applies to its case, and only if it is what `reference.py` gives with that difference in force.
`docs/keras.md` has the same list, in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Case = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """An intended difference.

    Attributes:
        id: What `reference.py` and the counts call it.
        callback: Whose it is.
        reason: Why, in a sentence.
        applies: Tells from settings and sequence alone whether it can matter to a case.
    """

    id: str
    callback: str
    reason: str
    applies: Callable[[Case], bool]


def _values(case: Case) -> list[float]:
    return [value for value in case["values"] if value is not None]


def _worst(case: Case) -> bool:
    """Whether a value is NaN, or the infinity that is worse than anything."""
    worst = -math.inf if case["settings"]["mode"] == "max" else math.inf
    return any(math.isnan(value) or value == worst for value in _values(case))


def _fine(case: Case) -> bool:
    """Whether a value is not exact in single precision."""
    return any(math.isfinite(value) and value * 8 % 1 for value in _values(case)) or (
        bool(case["settings"].get("min_delta", 0.0) * 8 % 1)
    )


def _rows(case: Case) -> list[Case]:
    return [row for run in case["runs"] for row in run["rows"]]


def _cells(case: Case) -> list[Any]:
    return [cell for row in _rows(case) for cell in row.values()]


def _columns_change(case: Case) -> bool:
    """Whether the columns of a file are not those of the first row that was written to it."""
    first: Sequence[str] = ()
    for run in case["runs"]:
        first = first if run["append"] else list(run["rows"][0])
        if any(set(row) - set(first) for row in run["rows"]):
            return True
        if run["append"] and set(run["rows"][0]) != set(first):
            return True
    return False


def _array(value: Any) -> int | None:
    """Give the number of dimensions of a value that stands for an array; of others None."""
    return value[0] if isinstance(value, list) and isinstance(value[1], list) else None


_WORST = "NaN is never the best value, nor is the worst infinity; Keras takes the first value, and "
_WORST += "no later one beats NaN"
_DOUBLE = "compared in double precision; Keras compares in single precision"
_COMPARED = ("early_stopping", "model_checkpoint", "reduce_lr_on_plateau")

ALL = [
    *(Difference("worst_is_never_best", name, _WORST, _worst) for name in _COMPARED),
    *(Difference("double_precision", name, _DOUBLE, _fine) for name in _COMPARED),
    Difference(
        "baseline_enforced",
        "early_stopping",
        "an improvement that stays short of the baseline counts as waiting, and may stop the run; "
        "in Keras it never does",
        lambda case: case["settings"]["baseline"] is not None,
    ),
    Difference(
        "cooldown_counts",
        "reduce_lr_on_plateau",
        "each epoch of the cooldown passes without counting, as in torch; in Keras the last one "
        "counts, so that cooldown=1 does nothing",
        lambda case: case["settings"]["cooldown"] > 0,
    ),
    Difference(
        "missing_is_not_best",
        "model_checkpoint",
        "save_best_only saves nothing while the metric is missing; Keras saves, over the best file",
        lambda case: case["settings"]["save_best_only"] and None in case["values"],
    ),
    Difference(
        "missing_is_na",
        "model_checkpoint",
        "a value that is missing stands as na in the path; in Keras it ends the run, after the "
        "epoch",
        lambda case: (
            (case["accuracy"] is None and "accuracy" in case["name"])
            or (None in case["values"] and "loss" in case["name"])
        ),
    ),
    Difference(
        "direction_known",
        "model_checkpoint",
        "save_best_only works with saves by batches; Keras ends the first epoch with a TypeError",
        lambda case: (
            case["settings"]["save_best_only"] and case["settings"]["save_freq"] != "epoch"
        ),
    ),
    Difference(
        "any_number",
        "learning_rate_scheduler",
        "a schedule may give any real number; Keras refuses a whole one",
        lambda case: case["schedule"].startswith("whole"),
    ),
    Difference(
        "epoch_is_looked_at",
        "terminate_on_nan",
        "the loss of the epoch is looked at too; Keras looks at batches alone",
        lambda case: any(
            one["loss"] is not None and not math.isfinite(one["loss"]) for one in case["epochs"]
        ),
    ),
    Difference(
        "line_ends",
        "csv_logger",
        r"lines end with \n; in Keras with \r\n",
        lambda case: True,
    ),
    Difference(
        "column_order",
        "csv_logger",
        "columns are in the order in which they were reported; in Keras they are sorted",
        lambda case: any(list(row) != sorted(row) for row in _rows(case)),
    ),
    Difference(
        "no_invented_columns",
        "csv_logger",
        "no val_ columns are invented where nothing was validated",
        lambda case: any(
            not any(name.startswith("val_") for name in run["rows"][0]) for run in case["runs"]
        ),
    ),
    Difference(
        "columns_grow",
        "csv_logger",
        "a name that is first reported later adds a column, and appended rows stay under their "
        "names; Keras drops the one and misaligns the others",
        _columns_change,
    ),
    Difference(
        "lists_are_plain",
        "csv_logger",
        "a list is written as [1, 2]; in Keras with a second pair of quotes around it",
        lambda case: any(isinstance(cell, list) for cell in _cells(case)),
    ),
    Difference(
        "none_is_na",
        "csv_logger",
        "None is written as NA, like what is missing; in Keras as nothing",
        lambda case: any(cell is None for cell in _cells(case)),
    ),
    Difference(
        "begins_afresh",
        "history",
        "a second fit begins with an empty history; in Keras its epochs are of the second fit, and "
        "its values of both",
        lambda case: len(case["runs"]) > 1,
    ),
    Difference(
        "misspelt_is_refused",
        "lambda_callback",
        "a hook that does not exist is refused; in Keras it is never called",
        lambda case: any(one["misspelt"] for one in case["callbacks"]),
    ),
    Difference(
        "by_position",
        "lambda_callback",
        "parameters of functions may have any names; Keras passes logs= to batch hooks",
        lambda case: any(
            one["positional"] and any("batch" in hook for hook in one["hooks"])
            for one in case["callbacks"]
        ),
    ),
    Difference(
        "end_sees_what_was_added",
        "lambda_callback",
        "on_train_end sees what callbacks added to the last epoch's logs; in Keras it does not",
        lambda case: (
            any(one["adds"] for one in case["callbacks"])
            and any("on_train_end" in one["hooks"] for one in case["callbacks"])
        ),
    ),
    Difference(
        "goes_on_at_the_next_batch",
        "backup_and_restore",
        "a backup inside an epoch goes on at the next batch; Keras begins the epoch again, on "
        "weights that have been trained with its first batches already",
        lambda case: case["save_freq"] != "epoch" and case["crash"] is not None,
    ),
    Difference(
        "deletes_its_own",
        "backup_and_restore",
        "only files of the backup are deleted; Keras deletes the whole folder",
        lambda case: case["other_file"] and case["delete_checkpoint"],
    ),
    Difference(
        "nan_is_null",
        "remote_monitor",
        "NaN and infinity are null; Keras sends no valid JSON as a form, and nothing as JSON, and "
        "says that the server cannot be reached",
        lambda case: any(
            isinstance(value, float) and not math.isfinite(value) for value in case["logs"].values()
        ),
    ),
    Difference(
        "arrays_are_lists",
        "remote_monitor",
        "an array is a list; in Keras one of several numbers ends training, and one of one number "
        "is that number",
        lambda case: any(_array(value) == 1 for value in case["logs"].values()),
    ),
    Difference(
        "numbers_are_floats",
        "remote_monitor",
        "a whole number in a 0-d array is read as a float, as everywhere in logs",
        lambda case: any(_array(value) == 0 for value in case["logs"].values()),
    ),
]
