"""What came of a run, and in what two runs differ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from hookloop.history import History
from hookloop.testing.kit import fail
from hookloop.testing.tiny import TinyLoop
from hookloop.testing.written import without, written

#: What stands for the folder of a run, where runs with folders of their own are compared.
_HERE = "{tmp}"


@dataclass(frozen=True)
class Outcome:
    """All of a run that has to be the same in an equal one."""

    weights: dict[str, Any]
    optimizer: dict[str, Any]
    history: dict[str, list[Any]]
    outcome: Any
    stop_reason: Any
    state: Any
    files: dict[str, Any]


def outcome(
    tiny: TinyLoop, callback: Any, folder: Path, history: History | None, *, files: bool = True
) -> Outcome:
    """Look at a run that is over.

    Args:
        tiny: What was trained.
        callback: The callback, whose state is part of it.
        folder: The run's folder, whose name is no difference in the state.
        history: The run's, if it has one.
        files: Whether what is in the folder is part of it.
    """
    state = callback.state_dict() if hasattr(callback, "state_dict") else None
    found = Outcome(
        weights=dict(tiny.model.state_dict()),
        optimizer=tiny.optimizer.state_dict(),
        history=dict(history.history) if history else {},
        outcome=history.outcome if history else None,
        stop_reason=history.stop_reason if history else None,
        state=_anywhere(state, str(folder)),
        files=written(folder) if files else {},
    )
    return deepcopy(found)


def require_same(
    one: Outcome, other: Outcome, varies: Collection[str], what: str, fix: str
) -> None:
    """Raise if two outcomes differ.

    Args:
        one: What came of the first.
        other: What came of the second, which should be the same.
        varies: Names whose values may differ, and patterns of files that may.
        what: Begins the sentence that says in what they differ.
        fix: What to do about it.
    """
    differences: list[str] = []
    for part in (field.name for field in fields(Outcome)):
        then, now = (_part(run, part, varies) for run in (one, other))
        differences += _differences(then, now, part, frozenset(varies))
    if differences:
        raise fail(f"{what}: {'; '.join(differences[:3])}", fix=fix)


def _part(run: Outcome, name: str, varies: Collection[str]) -> Any:
    found = getattr(run, name)
    return without(found, varies) if name == "files" else found


def same(one: Any, other: Any) -> bool:
    """Tell whether two structures of plain data and tensors are equal; NaN equals NaN."""
    return not any(_differences(one, other, "", frozenset()))


def _differences(one: Any, other: Any, path: str, varies: frozenset[str]) -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in [*one, *(key for key in other if key not in one)]:
            if key in varies:
                continue
            where = f"{path}.{key}" if path else str(key)
            if (key in one) != (key in other):
                yield f"{where} is there only in the {'first' if key in one else 'second'}"
            else:
                yield from _differences(one[key], other[key], where, varies)
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            yield f"{path} has {len(one)} items, then {len(other)}"
            return
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _differences(*pair, f"{path}[{index}]", varies)
    elif not _equal(one, other):
        yield f"{path or 'it'} is {short(one)}, then {short(other)}"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        alike = one.shape == other.shape and one.dtype == other.dtype
        return alike and torch.equal(one.nan_to_num(nan=1e30), other.nan_to_num(nan=1e30))
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return False
    return bool(one == other or (one != one and other != other))  # noqa: PLR0124  (NaN)


def short(value: Any) -> str:
    """Show a value in at most 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _anywhere(value: Any, folder: str) -> Any:
    """Replace the folder's name in all texts."""
    return changed_texts(value, lambda text: text.replace(folder, _HERE))


def changed_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Copy a structure, with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {changed_texts(k, change): changed_texts(item, change) for k, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(changed_texts(item, change) for item in value)
    return value
