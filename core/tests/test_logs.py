"""Logs: to its readers a plain dict of floats; underneath, values are read once, when looked at."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from hookloop import Logs


class OnDevice:
    """Stands for a 0-d tensor on an accelerator: it counts how often somebody waits for it."""

    ndim = 0

    def __init__(self, value: float) -> None:
        self.number, self.reads = value, 0

    def item(self) -> float:
        self.reads += 1
        return self.number


def made() -> Logs:
    return Logs({"size": 4, "loss": torch.tensor(0.5), "acc": np.float32(0.25), "note": "x"})


SEEN = {"size": 4, "loss": 0.5, "acc": 0.25, "note": "x"}


def _matched(logs: Logs) -> dict[str, Any]:
    match logs:
        case {"size": size, "loss": loss, "acc": acc, "note": note}:
            return {"size": size, "loss": loss, "acc": acc, "note": note}
    raise AssertionError


def _updated(logs: Logs) -> dict[str, Any]:
    target: dict[str, Any] = {}
    target.update(logs)
    return target


READERS: dict[str, Any] = {
    "dict()": dict,
    "** into a call": lambda logs: dict(**logs),
    "** into a display": lambda logs: {**logs},
    "json.dumps": lambda logs: json.loads(json.dumps(logs)),
    "json.dumps with indent": lambda logs: json.loads(json.dumps(logs, indent=1, sort_keys=True)),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    ".copy()": Logs.copy,
    "| on the left": lambda logs: logs | {},
    "| on the right": lambda logs: {} | logs,
    "pickle": lambda logs: pickle.loads(pickle.dumps(logs)),
    ".items()": lambda logs: dict(logs.items()),
    "zip of keys and values": lambda logs: dict(zip(logs, logs.values(), strict=True)),
    "get": lambda logs: {key: logs.get(key) for key in logs},
    "indexing": lambda logs: {key: logs[key] for key in logs},
    "pop": lambda logs: {key: logs.pop(key) for key in list(logs)},
    "popitem": lambda logs: dict(logs.popitem() for _ in range(len(logs))),
    "setdefault": lambda logs: {key: logs.setdefault(key, 9) for key in logs},
    "a match statement": _matched,
    "update of a dict": _updated,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_every_way_of_reading_sees_plain_numbers(reader: Any) -> None:
    """However logs are read, tensors and NumPy scalars are floats."""
    seen = reader(made())
    assert seen == SEEN
    assert {key: type(value) for key, value in seen.items()} == {
        "size": int,
        "loss": float,
        "acc": float,
        "note": str,
    }


def test_text_of_logs_is_that_of_a_dict() -> None:
    """``print(logs)`` shows numbers, not tensors."""
    assert repr(made()) == "{'size': 4, 'loss': 0.5, 'acc': 0.25, 'note': 'x'}"


def test_formatting_with_logs_works() -> None:
    """``format_map`` and ``%`` read as indexing does."""
    assert "{loss:.2f} {acc:.2f}".format_map(made()) == "0.50 0.25"
    assert "%(loss).1f" % made() == "0.5"  # noqa: UP031


def test_equal_to_what_it_reads_as() -> None:
    """``==`` and ``!=`` compare what is read."""
    assert made() == SEEN
    assert SEEN == made()  # noqa: SIM300
    assert made() == made()
    assert not made() != SEEN  # noqa: SIM202
    assert made() != {**SEEN, "loss": 0.25}


def test_true_even_when_empty() -> None:
    """``logs = logs or {}`` keeps the shared mapping."""
    logs = Logs()
    assert (logs or {}) is logs
    assert isinstance(logs, dict)


def test_a_value_is_read_from_its_device_once() -> None:
    """However often and however a value is looked at, its device is waited for once."""
    value = OnDevice(0.5)
    logs = Logs({"loss": value})
    assert [logs["loss"], logs.get("loss"), dict(logs)["loss"], *logs.values()] == [0.5] * 4
    assert value.reads == 1


def test_raw_gives_the_value_unread_also_after_somebody_read_it() -> None:
    """A mean over raw values is the same whoever looked at them in between."""
    value = OnDevice(0.5)
    logs = Logs({"loss": value})
    assert logs.raw("loss") is value
    assert logs["loss"] == 0.5
    assert logs.raw("loss") is value
    assert dict(logs.raw_items())["loss"] is value
    assert logs.raw("absent", 7) == 7


def test_a_new_value_is_read_anew() -> None:
    """Setting or deleting a key forgets what was read of it."""
    logs = Logs({"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
    assert dict(logs) == {"a": 1.0, "b": 2.0}
    logs["a"] = torch.tensor(3.0)
    del logs["b"]
    logs |= {"c": torch.tensor(4.0)}
    assert logs == {"a": 3.0, "c": 4.0}
    assert isinstance(logs, Logs)


@pytest.mark.parametrize(
    "given", [4, 4.0, torch.tensor(4), torch.tensor(4.0), np.int64(4), np.float32(4)], ids=repr
)
def test_size_is_an_int(given: Any) -> None:
    """Whatever a loop reports as ``size``, callbacks see an int."""
    logs = Logs()
    logs["size"] = given
    assert (logs["size"], type(logs["size"])) == (4, int)


def test_what_is_no_single_number_stays_as_given() -> None:
    """Arrays, text, None and outputs of a model pass through."""
    outputs, array = torch.zeros(2, 3), np.zeros(2)
    logs = Logs({"outputs": outputs, "array": array, "text": "x", "none": None, "flag": True})
    assert logs["outputs"] is outputs
    assert logs["array"] is array
    assert [logs["text"], logs["none"], logs["flag"]] == ["x", None, True]


def test_a_tensor_changed_in_place_after_it_was_logged_reads_as_it_was() -> None:
    """What was logged is what is read, also where the loop goes on adding to the same tensor."""
    total = torch.tensor(1.0)
    logs = Logs()
    logs["total"] = total
    logs.update(again=total)
    total += 1
    assert logs == {"total": 1.0, "again": 1.0}


def test_a_logged_loss_keeps_no_graph_alive() -> None:
    """Values are detached, so the memory of a step is free after it."""
    weight = torch.ones((), requires_grad=True)
    logs = Logs()
    logs["loss"] = weight * 2
    assert not getattr(logs.raw("loss"), "requires_grad", False)


def test_absent_keys_are_missing_as_in_a_dict() -> None:
    """Missing keys raise ``KeyError``, or give the default."""
    logs = Logs()
    with pytest.raises(KeyError):
        logs["x"]
    with pytest.raises(KeyError):
        logs.pop("x")
    with pytest.raises(KeyError):
        logs.popitem()
    assert logs.get("x") is None
    assert logs.pop("x", 1) == 1


def test_clear_leaves_nothing_behind() -> None:
    """After ``clear`` the mapping is empty, and what is put in again is read again."""
    logs = made()
    assert logs["loss"] == 0.5
    logs.clear()
    logs["loss"] = torch.tensor(2.0)
    assert logs == {"loss": 2.0}
