"""``hookloop resume-info``: what saved states hold, which are intact, where a run would go on."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hookloop import checkpoints, reading, soundness, state
from hookloop.errors import StateError, listed, without_fix
from hookloop.masking import HIDDEN, is_secret, masked

if TYPE_CHECKING:
    import argparse

_NUMBERED = re.compile(r".+-(\d{6,})")
_SUFFIXES = (".pt", ".pth", ".safetensors", ".h5", ".keras", ".ckpt")
#: What in a state counts up to a setting, and to which.
_UP_TO = {"wait": "patience", "cooldown_counter": "cooldown"}
_LONGEST_LIST, _LONGEST_TEXT = 4, 200


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    parser.add_argument(
        "path", metavar="PATH", help="a folder of states, one state, or a file of weights"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)


def run(asked: argparse.Namespace) -> int:
    """Print what is there; 1 if nothing of it is intact."""
    found = examine(Path(asked.path))
    print(json.dumps(found, indent=2) if asked.json else _as_text(found))
    return int(not any(one["intact"] for one in found["saved"]))


def examine(path: Path) -> dict[str, Any]:
    """Look at a folder or file without changing it.

    Returns:
        ``path``; ``lock``: who uses the folder, as a sentence, or None; ``saved``: for each state
        or file of weights, the newest first, what it holds, or why it cannot be used.

    Raises:
        StateError: If nothing is there that could be a saved state.
    """
    source = reading.whole_folder(path)
    inside = _saved_in(source) if source.is_dir() else [source] if source.exists() else []
    if not inside:
        what = "holds no saved state" if source.exists() else "does not exist"
        user = _lock(source) if source.is_dir() else None
        using = f", and is in use by {user.removesuffix('.')}" if user else ""
        fix = "name a folder of states, or a file that was saved"
        raise StateError(f"{path} {what}{using}.", fix="wait for a save" if user else fix)
    saved = [_look(one) for one in inside]
    numbered = [one for one in saved if one["kind"] == "state" and one["intact"]]
    alone, alone_state = len(inside) == 1, inside == [source]
    next_one = [one for one in numbered if alone or _NUMBERED.fullmatch(Path(one["path"]).name)]
    for one in next_one[:1]:
        one["goes_on"] = True
    return {
        "path": str(path),
        "lock": _lock(source.parent if alone_state else source),
        "saved": saved,
    }


def _saved_in(folder: Path) -> list[Path]:
    """Find what was saved: the folder itself, or what is in it, the newest first."""
    if any((folder / name).exists() for name in checkpoints.STATE_FILES):
        return [folder]
    found = [path for path in folder.iterdir() if _was_saved(path)]
    return sorted(found, key=lambda path: (_number(path), path.name), reverse=True)


def _was_saved(path: Path) -> bool:
    if path.is_symlink() or path.name.endswith(".tmp"):
        return False
    if path.is_dir():
        return any((path / name).exists() for name in checkpoints.STATE_FILES)
    return path.suffix.lower() in _SUFFIXES


def _number(path: Path) -> int:
    found = _NUMBERED.fullmatch(path.name)
    return int(found[1]) if found else -1


# -- one of them ---------------------------------------------------------------------------------


def _look(path: Path) -> dict[str, Any]:
    seen: dict[str, Any] = {"path": str(path), "kind": "state", "intact": False, "goes_on": False}
    try:
        found = _read(path)
        seen |= _of_weights(found) if "format" not in found else _of_state(found)
    except (StateError, OSError) as error:
        return {**seen, "problem": without_fix(error)}
    return {**seen, "intact": True}


def _read(path: Path) -> dict[str, Any]:
    """Read a state, checked whole, or else weights, which have no ``format``."""
    if path.is_dir():
        found = checkpoints.read_state(path)
    else:
        torchs = checkpoints.is_of_torch(path)
        found = checkpoints.read_pt(path) if torchs else dict(checkpoints.load_checkpoint(path))
    if found.get("format") == state.FORMAT:
        state.check_format(found)
        soundness.check_shape(found)
        soundness.check_own(found)
    elif found.get("format") == state.FORMAT_OF_CALLBACKS:
        state.check_format_of_callbacks(found)
        soundness.check_own(found)
    else:
        found.pop("format", None)
    return found


def _of_weights(found: Mapping[str, Any]) -> dict[str, Any]:
    tensors = [value for value in found.values() if hasattr(value, "numel")]
    return {
        "kind": "weights",
        "tensors": len(tensors),
        "numbers": sum(tensor.numel() for tensor in tensors),
    }


def _of_state(found: Mapping[str, Any]) -> dict[str, Any]:
    at, made = found["loop"], found.get("made")
    told = made if isinstance(made, Mapping) else {}
    callbacks = found["callbacks"].items()
    return {
        "kind": "state" if found["format"] == state.FORMAT else "callbacks",
        "epoch": at["epoch"],
        "batch": at["batch"],
        "step": at["step"],
        "stopped": [_value(str(reason)) for reason, _ in at["stops"]],
        "made": {
            key: _value(told[key]) for key in ("date", "hookloop", "torch", "python") if key in told
        },
        "callbacks": [_of_callback(str(name), entry) for name, entry in callbacks],
    }


def _of_callback(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    settings = {
        str(key): HIDDEN if is_secret(str(key)) else _value(value)
        for key, value in (entry["settings"] or {}).items()
    }
    held = entry["state"]
    words = None if held is None else _brief(dict(_words(held, entry["settings"] or {})))
    return {"name": name, "settings": settings, "state": words}


def _brief(words: Mapping[str, str]) -> dict[str, str]:
    """Leave out where in the state a value stands, unless its name alone stands there twice."""
    last = [name.rpartition(".")[2] for name in words]
    return {
        short if last.count(short) == 1 else name: text
        for short, (name, text) in zip(last, words.items(), strict=True)
    }


def _words(held: Any, settings: Mapping[Any, Any], name: str = "") -> Iterator[tuple[str, str]]:
    """Put the state of a callback into words: a name and a short text for each part of it."""
    if isinstance(held, Mapping) and held and not _are_tensors(held.values()):
        for key, value in held.items():
            yield from _words(value, settings, f"{name}.{key}" if name else str(key))
        return
    last = name.rpartition(".")[2]
    goal = settings.get(_UP_TO.get(last))
    of = f" of {_value(goal)}" if goal else ""
    shown = _value(held)
    text = f"{shown:.6g}" if isinstance(shown, float) else str(shown)
    yield name or "state", HIDDEN if is_secret(last) else f"{text}{of}"


def _are_tensors(values: Any) -> bool:
    return all(hasattr(value, "numel") for value in values)


def _value(value: Any) -> Any:
    """Show one value shortly: numbers, True, None and text as they are, the rest in words."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, str):
        shown = masked(value)
        return shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]}..."
    if hasattr(value, "numel"):
        return value.item() if value.ndim == 0 else f"tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        tensors = len(value) and _are_tensors(value.values())
        return f"{len(value)} tensors" if tensors else f"{len(value)} entries"
    if isinstance(value, list | tuple):
        short = len(value) <= _LONGEST_LIST and not any(map(_is_container, value))
        return [_value(one) for one in value] if short else f"{len(value)} values"
    return f"a {type(value).__name__}"


def _is_container(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)


# -- the lock --------------------------------------------------------------------------------------


def _lock(folder: Path) -> str | None:
    """Say who uses a folder of states, without taking its lock even for an instant."""
    if not _is_locked(folder / ".lock"):
        return None
    try:
        with reading.open_plain(folder / ".lock-holder", follow=False) as file:
            return masked(file.read(1000).decode(errors="replace"))
    except StateError:
        return "another process"


def _is_locked(path: Path) -> bool:
    """Ask the kernel; where it does not tell, whoever says to hold the lock is believed."""
    try:
        inode, locks = path.stat().st_ino, Path("/proc/locks").read_text()
    except OSError:
        return path.with_name(".lock-holder").exists()
    return any(part.endswith(f":{inode}") for part in locks.split())


# -- words -------------------------------------------------------------------------------------


def _as_text(found: Mapping[str, Any]) -> str:
    saved = found["saved"]
    intact = sum(one["intact"] for one in saved)
    head = f"{found['path']}: {intact} of {len(saved)} intact"
    lines = [head]
    if found["lock"] or Path(found["path"]).is_dir():  # a file is never in use
        lines.append(f"in use by {found['lock'] or 'nobody'}")
    for one in saved:
        lines += ["", *_lines(one, whole=one["goes_on"] or len(saved) == 1)]
    return "\n".join(lines)


def _lines(one: Mapping[str, Any], *, whole: bool) -> list[str]:
    """Put one of them into lines; all of what callbacks hold only where that is of interest."""
    name = Path(one["path"]).name
    if not one["intact"]:
        return [f"{name}  not intact", *_filled(one["problem"])]
    if one["kind"] == "weights":
        held = f"weights: {one['tensors']} tensors, {one['numbers']:,} numbers"
        return [f"{name}  intact", f"  {held}"]
    lines = [f"{name}  intact" + ("; a run goes on from here" if one["goes_on"] else "")]
    lines.append(f"  {state.place_of(one)}")
    lines += [line for reason in one["stopped"] for line in _filled(f"stopped: {reason}")]
    lines += _filled(_when(one["made"]))
    if one["kind"] == "callbacks":
        lines.append("  the callbacks alone: a framework saves the rest")
    return lines + (_of_callbacks(one["callbacks"]) if whole else [])


def _when(made: Mapping[str, Any]) -> str:
    if not made:
        return "saved by a hookloop that did not note when"
    versions = ", ".join(f"{key} {of}" for key, of in made.items() if key != "date")
    return f"saved {made.get('date')} by {versions}"


def _of_callbacks(callbacks: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for one in callbacks:
        if one["state"] is not None:
            settings = [f"{k}={v!r}" for k, v in one["settings"].items() if v is not None]
            told = ", ".join(f"{key} {text}" for key, text in one["state"].items())
            lines += _filled(f"{one['name']}: {told or 'nothing yet'}")
            lines += _filled(f"set to {', '.join(settings)}", 4) if settings else []
    without = [one["name"] for one in callbacks if one["state"] is None]
    return lines + (_filled(f"without state: {listed(without)}") if without else [])


def _filled(text: str, indent: int = 2) -> list[str]:
    """Fold a text under what it is about; nothing in it can move the cursor."""
    plain = "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))
    return textwrap.wrap(
        plain, 98, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2)
    )
