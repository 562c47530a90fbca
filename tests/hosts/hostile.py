"""Hostile files: what somebody could put in the place of a saved state, and what must come of it.

Each is made from good ones by a function of a folder. `verdict` has a fresh run go on from it, and
tells whether it was refused, with nothing changed, or held what the good one holds.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from comparing import differences
from torch import nn

from hookloop import Callback, HookloopError, Trainer, hookimpl, load_weights, rng
from hookloop.checkpoints import load_checkpoint, safetensors_bytes, save_state

X = torch.linspace(-1, 1, 48).reshape(24, 2)
DATA = (X, X.sum(1, keepdim=True))
#: What is read as what: a run goes on from states, a model is filled with weights.
STATES, WEIGHTS = ("run", "run.pt"), ("weights.pt", "weights.safetensors")
FILES = ("run/state.json", "run/tensors.safetensors", "run/manifest.json", "run.pt", *WEIGHTS)


class Strict(Callback):
    """Keeps a state, and refuses one that is not its own when half of it is taken over."""

    def __init__(self) -> None:
        self.count, self.words = 0, ["a"]

    def on_epoch_end(self) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "words": list(self.words)}

    def load_state_dict(self, state: Any) -> None:
        self.count = state["count"] + 0
        self.words = [word + "" for word in state["words"]]


class Worst:
    """A metric object that accumulates: the largest error."""

    name = "worst"

    def __init__(self) -> None:
        self.reset()

    def update(self, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.largest = max(self.largest, (outputs - targets).abs().max().item())

    def compute(self) -> float:
        return self.largest

    def reset(self) -> None:
        self.largest = 0.0


class Saves(Callback):
    """Keeps the last state of the run, and that of the middle of an epoch."""

    states: list[Any]

    def on_train_begin(self) -> None:
        self.states = []

    def on_batch_checkpoint(self) -> None:
        self.states.append(copy.deepcopy(self.loop.state_dict()))

    on_epoch_checkpoint = on_batch_checkpoint


class Looks(Callback):
    """Takes what is there before the callbacks round the run off, when some change the weights."""

    def __init__(self, run: Run) -> None:
        self.run, self.seen = run, {}

    @hookimpl(tryfirst=True)
    def on_train_end(self) -> None:
        self.seen = self.run.snapshot()


class Run:
    """A run of everything that has a state: made the same each time."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.Linear(3, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.strict, self.metric = Strict(), Worst()
        self.chosen = [
            "early_stopping:monitor=loss,restore_best_weights=true",
            "reduce_lr_on_plateau:monitor=loss",
            "swap_ema_weights",
            "learning_rate_scheduler:schedule='step:step_size=2'",
            self.strict,
        ]
        self.trainer = Trainer(
            self.model,
            loss="mse",
            optimizer=self.optimizer,
            metrics=[self.metric],
            device="cpu",
            seed=0,
        )

    def fit(self, *more: Any, **options: Any) -> None:
        callbacks = [*self.chosen, *more]
        self.trainer.fit(DATA, batch_size=8, verbose=0, callbacks=callbacks, **options)

    def snapshot(self) -> dict[str, Any]:
        """Copy what must not change."""
        return copy.deepcopy(
            {
                "model": dict(self.model.state_dict()),
                "optimizer": self.optimizer.state_dict(),
                "strict": self.strict.state_dict(),
                "metric": self.metric.largest,
                "rng": rng.capture(),
            }
        )


def good_states() -> list[dict[str, Any]]:
    """Train, and give a state of the middle of an epoch, and the last one, of the end of it."""
    saves = Saves()
    Run().fit(saves, epochs=2)
    return [saves.states[4], saves.states[-1]]


def lay_out(folder: Path, state: dict[str, Any]) -> None:
    """Save one state in all formats."""
    folder.mkdir()
    save_state(folder / "run", state)
    save_state(folder / "run.pt", state)
    torch.save(state["model"], folder / "weights.pt")
    (folder / "weights.safetensors").write_bytes(safetensors_bytes(state["model"]))


def verdict(path: Path, good: dict[str, Any]) -> str:
    """Use a file as what it is named after, and tell what came of it.

    Returns:
        ``"refused"``, by an error of hookloop's, with nothing changed; or ``"harmless"``: what was
        loaded is what the good one holds.
    """
    name = path.name.partition(".")[0]
    return (_resumed if name == "run" else _filled)(path, good)


def _resumed(path: Path, good: dict[str, Any]) -> str:
    after = resumed(path, good["loop"]["epoch"])
    if after is None:
        return "refused"
    assert not differences(after["model"], dict(good["model"])), "loaded other weights"
    assert not differences(after["optimizer"], good["optimizers"][0]), "loaded another optimizer"
    assert not differences(after["strict"], good["callbacks"]["strict"]["state"])
    return "harmless"


def resumed(path: Path, epochs: int) -> dict[str, Any] | None:
    """Have a fresh run go on from a file.

    Returns:
        What it went on from; None if it was refused, and nothing was changed.
    """
    run = Run()
    looks, before = Looks(run), run.snapshot()
    after = attempted(run, looks, path, epochs)
    if after is not None:
        return after
    now = run.snapshot()
    if looks.seen:  # the run had begun: it was seeded, and a scheduler made
        now, before = looks.seen, begun()
    parts = [key for key in now if differences(now[key], before[key])]
    assert not parts, f"refused, but these changed: {parts}"
    return None


@cache
def begun() -> dict[str, Any]:
    """Give what a run is like when it has begun, and nothing else."""

    class Stops(Callback):
        def on_train_begin(self) -> None:
            self.loop.stop("for the test")

    run = Run()
    looks = Looks(run)
    run.fit(looks, Stops(), epochs=1)
    return looks.seen


def attempted(run: Run, looks: Looks, path: Path, epochs: int) -> dict[str, Any] | None:
    """Have a run go on from a file; None if it was refused, else what it went on from."""
    looks.seen = {}
    try:
        run.fit(looks, epochs=epochs, resume=path)
    except HookloopError as error:
        if "\nfix: " not in str(error):
            raise AssertionError("no fix") from error
        return None
    return looks.seen


def _filled(path: Path, good: dict[str, Any]) -> str:
    model = Run().model
    before = copy.deepcopy(dict(model.state_dict()))
    try:
        load_checkpoint(path)
        load_weights(model, path)
    except HookloopError:
        now = dict(model.state_dict())
        assert not differences(now, before), "refused, but not without a change"
        return "refused"
    assert not differences(dict(model.state_dict()), dict(good["model"])), "loaded other weights"
    return "harmless"


# -- damage ------------------------------------------------------------------------------------


def damaged(draw: random.Random, each: int) -> Iterator[tuple[str, str, Callable[[bytes], bytes]]]:
    """Give ways to damage each file of each format: cut short, flipped, emptied, doubled, mixed."""
    for file in FILES:
        for number in range(each):
            at, bit = draw.random(), 1 << draw.randrange(8)
            yield f"{file} cut {number}", file, lambda data, at=at: data[: int(at * len(data))]
            yield (
                f"{file} flipped {number}",
                file,
                lambda data, at=at, bit=bit: _flip(data, at, bit),
            )
            yield f"{file} mixed {number}", file, lambda data, at=at: _mix(data, at)
        yield f"{file} empty", file, lambda data: b""
        yield f"{file} twice", file, lambda data: data + data
        yield f"{file} zeros", file, lambda data: bytes(len(data))


def _flip(data: bytes, at: float, bit: int) -> bytes:
    changed = bytearray(data)
    changed[int(at * len(data))] ^= bit
    return bytes(changed)


def _mix(data: bytes, at: float) -> bytes:
    """Exchange what lies before and behind a place, which leaves the size as it was."""
    place = int(at * len(data))
    return data[place:] + data[:place]


def seal(folder: Path) -> None:
    """Give a folder the manifest that belongs to its files, as a forger would."""
    sums = {}
    for path in folder.iterdir():
        if path.name != "manifest.json" and path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            sums[path.name] = {
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
    (folder / "manifest.json").write_text(json.dumps({"version": 1, "files": sums}))


# -- code ----------------------------------------------------------------------------------------


class _Calls:
    """Pickled, it is a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def calls(marker: Path) -> dict[str, Any]:
    """Give objects that would each make a file when they are unpickled carelessly."""
    import builtins
    import runpy
    import shutil
    import subprocess

    code = f"open({str(marker)!r}, 'w').close()"
    script = marker.with_name("script.py")
    script.write_text(code)
    inner = io.BytesIO()
    torch.save(_Calls(os.mkdir, str(marker)), inner, _use_new_zipfile_serialization=False)
    return {
        "os.system": _Calls(os.system, f"touch {marker}"),
        "os.mkdir": _Calls(os.mkdir, str(marker)),
        "os.popen": _Calls(os.popen, f"touch {marker}"),
        "builtins.eval": _Calls(eval, code),
        "builtins.exec": _Calls(exec, code),
        "builtins.open": _Calls(builtins.open, str(marker), "w"),
        "subprocess": _Calls(subprocess.check_call, ["touch", str(marker)]),
        "runpy": _Calls(runpy.run_path, str(script)),
        "shutil": _Calls(shutil.copy, str(script), str(marker)),
        "getattr": _Calls(getattr, Path, "touch"),
        "load_from_bytes": _Calls(torch.storage._load_from_bytes, inner.getvalue()),
        "path": _Calls(Path.touch, marker),
    }


def pickled(thing: Any, form: str) -> bytes:
    """Pickle something as torch does now, as it used to, or without torch."""
    out = io.BytesIO()
    if form == "pickle":
        pickle.dump(thing, out)
    else:
        torch.save(thing, out, _use_new_zipfile_serialization=form == "torch")
    return out.getvalue()


# -- archives and headers ---------------------------------------------------------------------


def zipped(parts: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def repacked(whole: bytes, kind: int, **changed: bytes) -> bytes:
    """Pack an archive anew, with other contents of some parts, by the last part of their names."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        parts = {one.filename: archive.read(one) for one in archive.infolist()}
    return zipped(
        {name: changed.get(name.rpartition("/")[2], content) for name, content in parts.items()},
        kind,
    )


def headed(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Make a file of safetensors with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one(shape: list[Any], offsets: list[Any], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HEADERS: dict[str, Callable[[], bytes]] = {
    "2^62": lambda: headed({}, length=2**62),
    "2^64-1": lambda: headed({}, length=2**64 - 1),
    "one too long": lambda: headed({"a": one([1], [0, 4])}, bytes(4), length=200),
    "shorter than eight": lambda: b"\1\2\3",
    "none": lambda: headed(b"", length=0),
    "no JSON": lambda: headed(b"{{{{"),
    "a list": lambda: headed([1, 2]),
    "no UTF-8": lambda: headed(b'{"\xff\xfe": 1}'),
    "a million keys": lambda: headed(
        b"{"
        + b",".join(
            b'"%07d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(10**6)
        )
        + b"}"
    ),
    "overlapping": lambda: headed({"a": one([2], [0, 8]), "b": one([2], [4, 12])}, bytes(12)),
    "a hole": lambda: headed({"a": one([1], [0, 4]), "b": one([1], [8, 12])}, bytes(12)),
    "backwards": lambda: headed({"a": one([1], [4, 0])}, bytes(4)),
    "beyond the end": lambda: headed({"a": one([2**40], [0, 2**42])}, bytes(4)),
    "more than any number": lambda: headed({"a": one([2**63, 2**63], [0, 4])}, bytes(4)),
    "negative": lambda: headed({"a": one([-1], [0, 4])}, bytes(4)),
    "a fraction": lambda: headed({"a": one([1.5], [0, 4])}, bytes(4)),
    "no such type": lambda: headed({"a": one([1], [0, 4], "OBJECT")}, bytes(4)),
    "a name twice": lambda: headed(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "metadata of numbers": lambda: headed({"__metadata__": {"a": 1}}),
    "metadata of none": lambda: headed({"__metadata__": None}),
    "deep": lambda: headed(b'{"a":' + b"[" * 100_000),
    "a sum of nothing": lambda: headed(
        {"__metadata__": {"hookloop.sha256": "0" * 64}, "a": one([1], [0, 4])}, bytes(4)
    ),
}

JSON: dict[str, Callable[[], bytes]] = {
    "deep": lambda: b"[" * 100_000,
    "deep and closed": lambda: b"[" * 100_000 + b"]" * 100_000,
    "deep objects": lambda: b'{"a":' * 100_000,
    "100 MB": lambda: b'"' + b"a" * 100_000_000 + b'"',
    "keys twice": lambda: b'{"format":"hookloop.state","format":"hookloop.state","version":1}',
    "a list": lambda: b"[]",
    "a number": lambda: b"1",
    "a longer number": lambda: b"1" * 100_000,
    "nothing": lambda: b"null",
    "no such tensor": lambda: b'{"format":{"$tensor":"/nowhere"}}',
    "a tensor of a list": lambda: b'{"format":{"$tensor":[1]}}',
    "a tuple of a number": lambda: b'{"format":{"$tuple":3}}',
    "pairs that are none": lambda: b'{"format":{"$dict":[[1,2,3]]}}',
    "keys that are lists": lambda: b'{"format":{"$dict":[[[1],2]]}}',
    "no float": lambda: b'{"format":{"$float":"one"}}',
    "an unknown mark": lambda: b'{"format":{"$import":"os"}}',
    "UTF-16": lambda: '{"format": "hookloop.state"}'.encode("utf-16"),
    "cut in a character": lambda: b'{"a":"\xc3',
}

MANIFESTS: dict[str, Any] = {
    "a path up": {"../../weights.pt": {"size": 1, "sha256": ""}},
    "an absolute path": {"/etc/hostname": {"size": 1, "sha256": ""}},
    "itself": {"manifest.json": {"size": 1, "sha256": ""}},
    "the folder": {".": {"size": 1, "sha256": ""}},
    "the folder above": {"..": {"size": 1, "sha256": ""}},
    "no name": {"": {"size": 1, "sha256": ""}},
    "a folder below": {"a/b": {"size": 1, "sha256": ""}},
    "NUL": {"state.json\0": {"size": 1, "sha256": ""}},
    "a long name": {"a" * 5000: {"size": 1, "sha256": ""}},
    "2^62 bytes": {"state.json": {"size": 2**62, "sha256": ""}},
    "fewer than none": {"state.json": {"size": -1, "sha256": ""}},
    "bytes in words": {"state.json": {"size": "many", "sha256": None}},
    "no sums": {"state.json": {}},
    "no entries": {"state.json": 3},
    "nothing": {},
}
