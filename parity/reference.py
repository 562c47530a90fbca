"""What Keras decides, and what hookloop means to decide, as formulas of neither's code.

Each function takes a case of `cases.py` and the ids of those differences of `differences.py` that
are to be in force. With none of them it has to give what Keras gave; with those that apply to a
case, what hookloop gives. So an intended difference excuses exactly what it describes.
"""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any
from urllib.parse import quote_plus

Case = dict[str, Any]
Flags = Collection[str]
INF = float("inf")


def single(value: float) -> float:
    """Round to single precision, in which Keras compares."""
    return struct.unpack("f", struct.pack("f", value))[0]


def comparison(mode: str, min_delta: float, flags: Flags) -> Callable[[Any, Any], bool]:
    """Make the test whether a value is better than another, or than none yet."""
    sign = -1.0 if mode == "max" else 1.0  # "auto" is for a loss here
    kept = (lambda value: value) if "double_precision" in flags else single

    def better(value: float, other: float | None) -> bool:
        if other is None:
            return "worst_is_never_best" not in flags or sign * value < INF
        return sign * kept(value + sign * abs(min_delta)) < sign * kept(other)

    return better


def early_stopping(case: Case, flags: Flags) -> Any:
    settings = case["settings"]
    patience, baseline = settings["patience"], settings["baseline"]
    better = comparison(settings["mode"], settings["min_delta"], flags)
    best = stopped = stored = None
    best_epoch = wait = monitored = 0
    waits = []
    for epoch, value in enumerate(case["values"]):
        if value is None or epoch < settings["start_from_epoch"]:
            waits.append(wait)
            continue
        monitored += 1
        improves = better(value, best)
        meets = baseline is None or better(value, baseline)
        if improves or monitored == 1:
            best_epoch = stored = epoch
        best = value if improves else best
        wait = 0 if improves and meets else wait + 1
        waits.append(wait)
        counts = not improves or (not meets and "baseline_enforced" in flags)
        if counts and wait >= patience and monitored > 1:
            stopped = epoch
            break
    restored = stored if settings["restore_best_weights"] else None
    return {
        "stopped": stopped,
        "waits": waits,
        "best": best,
        "best_epoch": best_epoch,
        "restored": restored,
    }


def reduce_lr_on_plateau(case: Case, flags: Flags) -> Any:
    settings, rate = case["settings"], case["rate"]
    better = comparison(settings["mode"], settings["min_delta"], flags)
    best, bad, rest = None, 0, 0
    rates, logged = [], []
    for value in case["values"]:
        logged.append(rate)
        if value is not None:
            # torch counts every epoch of the rest; in Keras the last of them counts as bad again.
            resting = rest > (0 if "cooldown_counts" in flags else 1)
            rest = max(rest - 1, 0)
            improves = better(value, best)
            best = value if improves else best
            bad = 0 if improves or resting else bad + 1
            if bad and bad >= settings["patience"]:
                if rate > single(settings["min_lr"]):
                    rate = max(rate * settings["factor"], settings["min_lr"])
                bad, rest = 0, settings["cooldown"]
        rates.append(rate)
    return {"rates": rates, "logged": logged, "best": best}


def model_checkpoint(case: Case, flags: Flags) -> Any:
    settings = case["settings"]
    by_batch, best_only = settings["save_freq"] != "epoch", settings["save_best_only"]
    better = comparison(settings["mode"], 0.0, flags)
    best, seen = settings["initial_value_threshold"], 0
    saved: list[list[str]] = []
    for epoch, batch, value in _moments(case, by_batch):
        if batch is not None:
            seen += 1
            due = seen == settings["save_freq"]
            seen = 0 if due else seen
        else:
            due = not by_batch
        if not due:
            saved.append([])
            continue
        if best_only and value is None and "missing_is_not_best" in flags:
            saved.append([])
            continue
        name = _name(case, epoch, batch, value, flags)
        if name is None:
            return {"saved": saved, "best": best, "error": "KeyError"}
        if best_only and value is not None:
            undecided = batch is not None and epoch == 0 and "direction_known" not in flags
            if undecided and best is not None:
                return {"saved": saved, "best": best, "error": "TypeError"}
            if not better(value, best):
                saved.append([])
                continue
            best = value
        saved.append([name])
    return {"saved": saved, "best": best, "error": None}


def _moments(case: Case, by_batch: bool) -> Iterator[tuple[int, int | None, float | None]]:
    """Give the moments at which something can be saved: epoch, batch, and the monitored value."""
    values = iter(case["values"])
    for epoch in range(case["epochs"]):
        value = None
        for batch in range(case["batches"] if by_batch else 0):
            value = next(values)
            yield epoch, batch, value
        yield epoch, None, (value if by_batch else next(values))


def _name(
    case: Case, epoch: int, batch: int | None, value: float | None, flags: Flags
) -> str | None:
    """Fill in the name of a file; None where a value is missing and that is an error."""
    monitor = case["settings"]["monitor"]
    number = None if batch is None else batch + 1
    known = {"epoch": epoch + 1, "batch": number, monitor: value, "accuracy": case["accuracy"]}
    name = case["name"]
    for field, one in known.items():
        for spec in ("", ":02d", ":03d", ":.1f", ":.2f"):
            text = "{" + field + spec + "}"
            if text not in name:
                continue
            if one is None and "missing_is_na" not in flags:
                return None
            name = name.replace(text, "na" if one is None else format(one, spec[1:]))
    return name + ".keras"


def terminate_on_nan(case: Case, flags: Flags) -> Any:
    for epoch, one in enumerate(case["epochs"]):
        places = [(f"Batch {index}", index, loss) for index, loss in enumerate(one["batches"])]
        if "epoch_is_looked_at" in flags:
            places.append((f"Epoch {epoch}", None, one["loss"]))
        for where, index, loss in places:
            if loss is None or abs(loss) < INF:
                continue
            if case["raise_error"]:
                error = (
                    f"NaN or Inf loss encountered at {where.lower()}. Loss value: {loss}. "
                    "Terminating training immediately."
                )
                return {"stopped": None, "error": error, "said": ""}
            said = f"{where}: Invalid loss, terminating training"
            return {"stopped": [epoch, index], "error": None, "said": said}
    return {"stopped": None, "error": None, "said": ""}


def csv_logger(case: Case, flags: Flags) -> str:
    """Give the text of the file."""
    text = ""
    end = "\n" if "line_ends" in flags else "\r\n"
    rows: list[Case] = []  # of the file so far, for columns that grow
    for run in case["runs"]:
        if not run["append"]:
            text, rows = "", []
        if "columns_grow" in flags:
            rows += [{"epoch": index, **row} for index, row in enumerate(run["rows"])]
            continue
        columns = _columns(run["rows"][0], flags)
        text += _csv(case, [] if text else [columns], end)
        found = [{"epoch": index, **row} for index, row in enumerate(run["rows"])]
        text += _csv(case, [_cells(row, columns, flags) for row in found], end)
    if "columns_grow" not in flags:
        return text
    kept = ["epoch"]  # the columns
    for row in rows:
        new = [name for name in row if name not in kept]
        kept += new if "column_order" in flags else sorted(new)
    return _csv(case, [kept, *(_cells(row, kept, flags) for row in rows)], end)


def _columns(row: Case, flags: Flags) -> list[str]:
    """Give the columns of a run whose first row is this, as Keras fixes them."""
    names = list(row) if "column_order" in flags else sorted(row)
    if "no_invented_columns" not in flags and not any(name.startswith("val_") for name in names):
        names += [f"val_{name}" for name in names]
    return ["epoch", *names]


def _cells(row: Case, columns: Sequence[str], flags: Flags) -> list[str]:
    return [_cell(row.get(name, "NA"), flags) for name in columns]


def _cell(value: Any, flags: Flags) -> str:
    if value is None:
        return "NA" if "none_is_na" in flags else ""
    if isinstance(value, list):
        return str(value) if "lists_are_plain" in flags else f'"{value}"'
    return str(value)


def _csv(case: Case, rows: Sequence[Sequence[str]], end: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=case["separator"], lineterminator=end).writerows(rows)
    return text.getvalue()


def history(case: Case, flags: Flags) -> Any:
    seen, before = [], []
    for run in case["runs"]:
        if "begins_afresh" in flags:
            before = []
        before += run["rows"]
        names = dict.fromkeys(name for row in before for name in row)
        seen.append(
            {
                "epoch": [run["first"] + index for index in range(len(run["rows"]))],
                "history": {name: [row[name] for row in before if name in row] for name in names},
            }
        )
    return seen


def lambda_callback(case: Case, flags: Flags) -> Any:
    if "misspelt_is_refused" in flags:
        return {"lines": "", "error": "SettingError"}
    lines: list[str] = []
    for hook, position, keys in _script(case, flags):
        keys = list(keys)
        for index, one in enumerate(case["callbacks"]):
            older = hook.replace("train_batch", "batch")
            if hook not in one["hooks"] and older not in one["hooks"]:
                continue
            if one["positional"] and "batch" in hook and "by_position" not in flags:
                return {"lines": " ".join(lines), "error": "TypeError"}
            if hook == "on_epoch_end" and one["adds"]:
                keys.append(f"added{index}")
            short = older.removeprefix("on_")
            lines.append(f"{index}{short}{position}:{','.join(sorted(keys))}")
    return {"lines": " ".join(lines), "error": None}


def _script(case: Case, flags: Flags) -> Iterator[tuple[str, Any, list[str]]]:
    """Give the hooks of a run in order, each with its position and the keys of its logs."""
    final: list[str] = []
    yield "on_train_begin", "", []
    for epoch in range(case["epochs"]):
        yield "on_epoch_begin", epoch, []
        for batch in range(case["batches"]):
            yield "on_train_batch_begin", batch, []
            yield "on_train_batch_end", batch, ["acc", "loss"]
        if case["validates"]:
            yield "on_test_begin", "", []
            yield "on_test_batch_begin", 0, []
            yield "on_test_batch_end", 0, ["loss"]
            yield "on_test_end", "", ["loss"]
        final = ["acc", "loss"] + (["val_loss"] if case["validates"] else [])
        yield "on_epoch_end", epoch, final
    if "end_sees_what_was_added" in flags:
        final = final + [f"added{i}" for i, one in enumerate(case["callbacks"]) if one["adds"]]
    yield "on_train_end", "", final
    if case["predicts"]:
        yield "on_predict_begin", "", []
        yield "on_predict_batch_begin", 0, []
        yield "on_predict_batch_end", 0, ["outputs"]
        yield "on_predict_end", "", []


def learning_rate_scheduler(case: Case, flags: Flags) -> Any:
    rate, last = case["rate"], case["first"] + case["epochs"]
    rates: list[float] = []
    schedules: dict[str, Callable[[int, float], float]] = {
        "constant": lambda epoch, lr: 0.25,
        "halves": lambda epoch, lr: lr / 2,
        "halves_from_3": lambda epoch, lr: lr / (1 if epoch < 3 else 2),
        "decays_from_2": lambda epoch, lr: lr * (1 if epoch < 2 else 0.9048374180359595),
        "inverse": lambda epoch, lr: 1 / (1 + epoch),
        "steps": lambda epoch, lr: 0.5 if epoch < 2 else 0.25 if epoch < 4 else 0.125,
        "whole": lambda epoch, lr: 1.0,
        "whole_from_2": lambda epoch, lr: 0.5 if epoch < 2 else 1.0,
        "zero": lambda epoch, lr: 0.0,
        "grows": lambda epoch, lr: lr * 1.5,
    }
    for epoch in range(case["first"], last):
        whole = case["schedule"] == "whole" or (case["schedule"] == "whole_from_2" and epoch >= 2)
        if whole and "any_number" not in flags:
            return {"rates": rates, "logged": rates, "error": "ValueError"}
        rate = schedules[case["schedule"]](epoch, rate)
        rates.append(rate)
        other = case["others"][epoch % 10]
        rate = rate if other is None else other
    return {"rates": rates, "logged": rates, "error": None}


def backup_and_restore(case: Case, flags: Flags) -> Any:
    steps = [(epoch, batch) for epoch in range(case["epochs"]) for batch in range(case["batches"])]
    runs, saved, other = [], None, False
    place, weights, since, crash = 0, 0, 0, case["crash"]
    while True:
        run: dict[str, Any] = {"weights": weights, "trained": [], "crashed": False}
        runs.append(run)
        for index in range(place, len(steps)):
            epoch, batch = steps[index]
            run["trained"].append([epoch, batch])
            weights += 1
            if [epoch, batch] == crash:
                break
            by_batch = case["save_freq"] != "epoch"
            since += 1
            if by_batch and since == case["save_freq"]:
                saved, since = (index + 1, weights), 0
            if batch == case["batches"] - 1:
                if crash == [epoch, case["batches"]]:
                    break
                if not by_batch:
                    saved = (index + 1, weights)
        else:
            break
        run["crashed"], crash, other = True, None, case["other_file"]
        place, weights = saved or (0, 0)
        since = 0
        if "goes_on_at_the_next_batch" not in flags:  # the epoch of the backup begins again
            place -= _into_the_epoch(place, case, saved)
    backup = saved is not None and not case["delete_checkpoint"]
    if case["delete_checkpoint"] and "deletes_its_own" not in flags:
        other = False
    return {"runs": runs, "backup": backup, "other": other}


def _into_the_epoch(place: int, case: Case, saved: Any) -> int:
    """Count the batches of its epoch that come before a place."""
    inside = place % case["batches"]
    if case["save_freq"] != "epoch" and saved is not None and inside == 0:
        return case["batches"]  # saved at the last batch, before the epoch was counted
    return inside


def remote_monitor(case: Case, flags: Flags) -> Any:
    send: dict[str, Any] = {"epoch": case["epoch"]}
    for name, value in case["logs"].items():
        if isinstance(value, list) and isinstance(value[1], list):
            dimensions, numbers = value
            if dimensions and "arrays_are_lists" in flags:
                value = numbers
            elif len(numbers) > 1:
                return {"error": "ValueError"}
            else:
                whole = not dimensions and "numbers_are_floats" in flags
                value = float(numbers[0]) if whole else numbers[0]
        finite = not isinstance(value, float) or abs(value) < INF
        if not finite and "nan_is_null" not in flags and case["send_as_json"]:
            send[name] = None
            send[""] = "not sent"  # but an array after it may still end the run
            continue
        send[name] = value if finite or "nan_is_null" not in flags else None
    if send.pop("", None):
        return {"error": "not sent"}
    body = json.dumps(send)
    if not case["send_as_json"]:
        body = f"{quote_plus(case['field'])}={quote_plus(body)}"
    return {"url": "http://localhost:9000/publish/epoch/end/", "body": body}
