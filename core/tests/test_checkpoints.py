"""Saved states and weights: what goes in comes out, damage is found, and no code is run."""

from __future__ import annotations

import base64
import json
import math
import os
import pickle
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hookloop import checkpoints, load_weights
from hookloop.checkpoints import (
    delete_state,
    load_checkpoint,
    load_state,
    safetensors_bytes,
    save_state,
)
from hookloop.errors import StateError
from hookloop.state import FORMAT, SECTIONS, VERSION

PLAIN: dict[str, Any] = {
    "none": None,
    "yes": True,
    "int": 3,
    "big": 2**70,
    "float": 0.1,
    "inf": math.inf,
    "minus inf": -math.inf,
    "tiny": 5e-324,
    "text": "naïve 𝟛 \0 \ud800",
    "list": [1, [2.5, None], []],
    "tuple": (1, (2,), [3]),
    "empty": {},
    "int keys": {0: "a", 1: {2: "b"}},
    "mixed keys": {1: "int", "1": "text"},
    "dollar": {"$tensor": "x", "$float": "y"},
    "one dollar": {"$tuple": [1]},
    "ordered": OrderedDict(a=1),
    "slashes": {"a/b": torch.tensor(1.0), "a": {"b": torch.tensor(2.0)}},
    "same names": {1: torch.tensor(1), "1": torch.tensor(2)},
    "0-d": torch.tensor(1.5),
    "no elements": torch.zeros(0, 3),
    "view": torch.arange(6.0).reshape(2, 3).T,
    "kinds": [
        torch.ones(2, dtype=kind)
        for kind in (torch.float64, torch.bfloat16, torch.float16, torch.int8, torch.bool)
    ],
    "bytes": torch.arange(5, dtype=torch.uint8),
}


def state_of(model: nn.Module, **callbacks: Any) -> dict[str, Any]:
    """A state as a loop gives it, with something of every kind in it."""
    return {
        **dict.fromkeys(SECTIONS),
        "format": FORMAT,
        "version": VERSION,
        "model": model.state_dict(),
        "optimizers": [],
        "callbacks": callbacks,
    }


def same(one: Any, two: Any) -> bool:
    """Compare with types: a tuple is no list, an int no float, and NaN is NaN."""
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(two) and len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, float) and isinstance(two, float) and math.isnan(one):
        return math.isnan(two)
    return type(one) is type(two) and one == two


def by_name(weights: Any) -> dict[str, Any]:
    """Sort, since safetensors keeps no order."""
    return dict(sorted(weights.items()))


@pytest.mark.parametrize("name", ["run.pt", "run"], ids=["pt", "folder"])
@pytest.mark.parametrize("value", [*PLAIN.values(), math.nan], ids=[*PLAIN, "nan"])
def test_plain_data_and_tensors_come_back_as_they_were(
    tmp_path: Path, name: str, value: Any
) -> None:
    """Keys, tuples, infinities, views: the same values of the same types, in both formats."""
    saved = state_of(nn.Linear(2, 1), x=value)
    save_state(tmp_path / name, saved)
    loaded = load_state(tmp_path / name)
    assert same(saved, loaded)


@pytest.mark.parametrize("value", [*PLAIN.values(), math.nan], ids=[*PLAIN, "nan"])
def test_plain_data_and_tensors_come_back_from_json(value: Any) -> None:
    """For frameworks that save nothing else, and sort its keys."""
    saved = {"z": value, "a": 1}
    text = json.dumps(checkpoints.as_json(saved), allow_nan=False, sort_keys=True)
    assert same(checkpoints.from_json(json.loads(text)), saved)


@pytest.mark.parametrize(
    "damage",
    [
        {"tensors": "AAAA"},
        {"tensors": "no base64"},
        {"tensors": None},
        {"plain": "{"},
        {"plain": 3},
        {"plain": '{"x":{"$tensor":"/y"}}'},
    ],
    ids=str,
)
def test_damaged_json_is_refused(damage: dict[str, Any]) -> None:
    """Whatever is wrong with it."""
    saved = checkpoints.as_json({"x": torch.ones(2)})
    with pytest.raises(StateError, match=r"damaged or of another format.*\nfix: "):
        checkpoints.from_json({**saved, **damage})


def test_a_changed_tensor_in_json_is_found() -> None:
    """By the checksum that it carries."""
    saved = checkpoints.as_json({"x": torch.ones(64)})
    whole = bytearray(base64.b64decode(saved["tensors"]))
    whole[-1] ^= 1
    saved["tensors"] = base64.b64encode(whole).decode()
    with pytest.raises(StateError, match="SHA-256"):
        checkpoints.from_json(saved)


def test_a_real_optimizer_s_state_comes_back_from_a_folder(tmp_path: Path) -> None:
    """Int keys, nested lists and tensors, exactly."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    saved = {**state_of(model), "optimizers": [optimizer.state_dict()]}
    save_state(tmp_path / "run", saved)
    assert same(load_state(tmp_path / "run"), saved)


@pytest.mark.parametrize(
    "value", [{1, 2}, Path("x"), b"bytes", object(), {(1, 2): 3}], ids=lambda v: type(v).__name__
)
def test_what_is_no_plain_data_is_refused_when_saving(tmp_path: Path, value: Any) -> None:
    """By name and place; what was there before is there still."""
    path = tmp_path / "run"
    save_state(path, state_of(nn.Linear(2, 1)))
    with pytest.raises(StateError, match=r"/callbacks/x.*\nfix: "):
        save_state(path, state_of(nn.Linear(2, 1), x=value))
    load_state(path)


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "weights.pt", "run"])
def test_weights_are_read_from_everything_that_hookloop_writes(tmp_path: Path, name: str) -> None:
    """Whole states, weights alone, safetensors and folders."""
    torch.manual_seed(0)
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    path = tmp_path / name
    if name == "m.safetensors":
        path.write_bytes(safetensors_bytes(model.state_dict()))
    elif name == "weights.pt":
        torch.save(model.state_dict(), path)
    else:
        save_state(path, state_of(model))
    load_weights(other, path)
    assert same(dict(other.state_dict()), dict(model.state_dict()))


def test_tied_weights_are_saved_whole(tmp_path: Path) -> None:
    """Tensors that share memory come back, each of its own."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes(model.state_dict()))
    assert same(by_name(load_checkpoint(path)), by_name(model.state_dict()))


class Deeper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 3))
        self.bias = nn.Parameter(torch.zeros(2))
        self.more = nn.Parameter(torch.zeros(1))


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (Deeper(), "more is missing"),
        (nn.Linear(3, 2, bias=False), "bias is not in this model"),
        (nn.Linear(4, 2), "weight has shape (2, 3), this model (2, 4)"),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_weights_of_another_model_change_nothing(
    tmp_path: Path, other: nn.Module, text: str
) -> None:
    """Not even those that would fit."""
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes({k: v + 7 for k, v in nn.Linear(3, 2).state_dict().items()}))
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(StateError) as caught:
        load_weights(other, path)
    assert text in str(caught.value)
    assert str(caught.value).endswith("fix: build the model as it was when they were saved")
    assert same(before, dict(other.state_dict()))


# -- damage ---------------------------------------------------------------


FLIPS = 100


def flipped(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "run"])
@pytest.mark.reliability("C4")
def test_a_flipped_bit_is_found_or_does_no_harm(tmp_path: Path, name: str) -> None:
    """One random bit, a hundred times: an error of ours, or the same weights; never others."""
    torch.manual_seed(0)
    model = nn.Linear(16, 8)
    weights, path = dict(model.state_dict()), tmp_path / name
    if name == "m.safetensors":
        path.write_bytes(safetensors_bytes(weights))
    else:
        save_state(path, state_of(model, x={"best": 0.5}))
    draw, found = random.Random(0), 0
    victims = sorted(path.iterdir()) if path.is_dir() else [path]
    for _ in range(FLIPS):
        victim = draw.choice(victims)
        whole = victim.read_bytes()
        victim.write_bytes(flipped(whole, draw))
        other = nn.Linear(16, 8)
        try:
            load_weights(other, path)
            assert same(dict(other.state_dict()), weights)
        except StateError as error:
            assert "\nfix: " in str(error)  # noqa: PT017
            found += 1
        victim.write_bytes(whole)
    assert found > FLIPS * (0.5 if name == "m.pt" else 0.8)  # padding and free text are harmless


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
@pytest.mark.reliability("C5")
def test_a_file_cut_short_is_found_at_every_length(tmp_path: Path, name: str) -> None:
    """As a copy that was interrupted leaves it."""
    model, path = nn.Linear(2, 1), tmp_path / name
    if name == "m.safetensors":
        path.write_bytes(safetensors_bytes(model.state_dict()))
    else:
        save_state(path, state_of(model))
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        with pytest.raises(StateError):
            load_checkpoint(path)


@pytest.mark.parametrize("reader", [load_state, load_checkpoint], ids=["state", "weights"])
@pytest.mark.parametrize("content", [b"", b"PK", b"hello", b"\x80\x02}."], ids=repr)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, reader: Any, content: bytes) -> None:
    """With a sentence, not a traceback from a reader."""
    path = tmp_path / "m.pt"
    path.write_bytes(content)
    with pytest.raises(StateError, match="is damaged or of another format"):
        reader(path)


@pytest.mark.parametrize("reader", [load_state, load_checkpoint], ids=["state", "weights"])
def test_a_file_that_is_not_there_says_so(tmp_path: Path, reader: Any) -> None:
    """Rather than ``FileNotFoundError`` from inside."""
    with pytest.raises(StateError, match=r"absent.pt does not exist.\nfix: name a "):
        reader(tmp_path / "absent.pt")


def test_a_folder_of_states_names_one_of_them(tmp_path: Path) -> None:
    """Who passes the folder of backups is told what to pass."""
    for name in ("state-000001", "state-000002"):
        save_state(tmp_path / name, state_of(nn.Linear(1, 1)))
    with pytest.raises(StateError) as caught:
        load_state(tmp_path)
    assert caught.value.fix == (
        f"name the folder of an intact state, such as {tmp_path / 'state-000002'}"
    )


def test_weights_are_no_state_of_a_run(tmp_path: Path) -> None:
    """And a folder of another version is not read half."""
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "w.pt")
    with pytest.raises(StateError, match="This is not the saved state of a run"):
        load_state(tmp_path / "w.pt")
    save_state(tmp_path / "run", {**state_of(nn.Linear(1, 1)), "version": 99})
    with pytest.raises(StateError, match="The state is of version 99; this hookloop reads 1"):
        load_checkpoint(tmp_path / "run")


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["torch", "torch legacy", "pickle"])
@pytest.mark.parametrize("reader", [load_state, load_checkpoint], ids=["state", "weights"])
@pytest.mark.reliability("H1")
def test_loading_runs_no_code(tmp_path: Path, form: str, reader: Any) -> None:
    """A pickle that would make a folder makes none, and the file is refused."""
    marker, path = tmp_path / "executed", tmp_path / "evil.pt"
    evil = state_of(nn.Linear(1, 1), x=Malicious(marker))
    if form == "pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(StateError, match=r"\nfix: "):
        reader(path)
    assert not marker.exists()


def test_the_sum_in_a_safetensors_file_is_that_of_its_data(tmp_path: Path) -> None:
    """Anybody can check it without hookloop."""
    import hashlib
    import json

    whole = safetensors_bytes({"w": torch.arange(4.0)})
    length = int.from_bytes(whole[:8], "little")
    metadata = json.loads(whole[8 : 8 + length])["__metadata__"]
    assert metadata["hookloop.sha256"] == hashlib.sha256(whole[8 + length :]).hexdigest()


def test_a_safetensors_file_of_somebody_else_is_read(tmp_path: Path) -> None:
    """Without a sum there is nothing to compare."""
    import safetensors.torch

    safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "m.safetensors")
    assert same(load_checkpoint(tmp_path / "m.safetensors"), {"w": torch.ones(2)})


def test_a_dead_process_s_replacement_is_read_from_where_the_old_one_stands(
    tmp_path: Path,
) -> None:
    """Between two renames the folder itself is not there."""
    save_state(tmp_path / "run", state_of(nn.Linear(1, 1)))
    (tmp_path / "run").rename(tmp_path / ".run.previous")
    assert load_state(tmp_path / "run")["format"] == FORMAT
    assert set(load_checkpoint(tmp_path / "run")) == {"weight", "bias"}


def test_module_offers_no_reader_that_executes() -> None:
    """``torch.load`` is called in one place, with ``weights_only=True``."""
    source = Path(checkpoints.__file__).read_text()
    assert source.count("torch.load(") == source.count("weights_only=True)") + source.count(
        "safetensors.torch.load("
    )


@pytest.mark.parametrize("damaged", [False, True])
def test_a_state_folder_can_be_deleted_also_if_it_is_damaged(tmp_path, damaged):
    """By the names of which each is made."""
    path = tmp_path / "run"
    save_state(path, state_of(nn.Linear(1, 1)))
    if damaged:
        (path / "manifest.json").write_bytes(b"")
    delete_state(path)
    assert list(tmp_path.iterdir()) == []
