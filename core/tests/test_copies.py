"""Copies of a state: one is made in memory, into memory that is there, and no other by writing."""

from __future__ import annotations

import struct
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hookloop import copying
from hookloop.checkpoints import load_checkpoint, pt_writer, safetensors_writer, save_state
from hookloop.copying import Snapshot
from hookloop.errors import StateError
from hookloop.state import FORMAT, SECTIONS, VERSION
from hookloop.torch_format import write_torch


@pytest.fixture
def state() -> dict[str, Any]:
    torch.manual_seed(0)
    weight = torch.randn(300, 1000)
    return {"weight": weight, "tied": weight, "moments": [torch.randn(300, 1000)], "step": 3}


def addresses(copied: dict[str, Any]) -> list[int]:
    return [one.data_ptr() for one in (copied["weight"], copied["moments"][0])]


# -- in memory ---------------------------------------------------------------


def test_what_training_does_later_does_not_reach_a_copy(state) -> None:
    """No tensor of it is the run's own, the tied ones neither."""
    copied = Snapshot(own=True).copy(state)
    expected = state["weight"].clone()
    state["weight"].fill_(99)
    state["moments"][0].fill_(99)
    assert copied["weight"].equal(expected)
    assert copied["tied"] is copied["weight"]
    assert not copied["moments"][0].eq(99).any()


def test_a_later_copy_is_made_in_the_memory_of_the_one_before(state) -> None:
    """Fresh memory costs more than copying; and there is never more than one copy."""
    snapshot = Snapshot(own=True)
    first = addresses(snapshot.copy(state))
    state["weight"].fill_(7)
    second = snapshot.copy(state)
    assert addresses(second) == first
    assert second["weight"].eq(7).all()


def test_what_is_written_in_place_is_not_copied(state) -> None:
    """Training waits for the file, and changes nothing meanwhile."""
    assert addresses(Snapshot(own=False).copy(state)) == addresses(state)


def test_a_view_that_only_says_what_to_do_with_numbers_is_no_tied_tensor() -> None:
    """Conjugated and negated ones share the memory of their base, and have other values."""
    base = torch.tensor([1 + 2j, 3 - 1j])
    state = {"a": base, "b": base.conj(), "c": base.imag, "d": base.conj().imag}
    copied = Snapshot(own=True).copy(state)
    assert all(copied[key].equal(value) for key, value in state.items())
    base.fill_(0)
    assert copied["b"].equal(torch.tensor([1 - 2j, 3 + 1j]))


@pytest.mark.parametrize("key", [np.int64(3), np.float64(0.5), (1, 2)], ids=repr)
def test_a_key_that_no_file_can_hold_is_named(key: Any) -> None:
    """It would be written, and then not read."""
    kind = type(key).__name__
    with pytest.raises(StateError, match=f"holds a {kind} at state\\['counts'\\]"):
        Snapshot(own=True).copy({"counts": {key: 1}})


ENDLESS: list[Any] = [torch.ones(1)]
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    "value",
    [torch.ones(2, device="meta"), ENDLESS, [{1}, ENDLESS]],
    ids=["no values", "a cycle", "a cycle behind what no file can hold"],
)
def test_what_cannot_be_copied_is_an_error_of_ours(value: Any) -> None:
    """So that on_save_error decides what becomes of the run."""
    with pytest.raises(StateError, match="The state cannot be copied"):
        Snapshot(own=True).copy({"odd": value})


def test_a_copy_has_the_layout_of_what_was_copied() -> None:
    """Fused optimizers take their numbers as they lie in memory, so another's room is no room."""
    last = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    plain = torch.randn(2, 3, 4, 4)
    snapshot = Snapshot(own=True)
    snapshot.copy([plain, last])
    copied = snapshot.copy([last, plain, last])
    assert [one.stride() for one in copied] == [last.stride(), plain.stride(), last.stride()]
    assert copied[0].equal(last)
    assert copied[1].equal(plain)


def test_from_cuda_all_copies_are_under_way_before_the_one_wait(state, monkeypatch) -> None:
    """Pretending: into pinned memory that is made once, without waiting for each tensor."""
    done: list[str] = []
    copy, make = Tensor.copy_, torch.empty_like

    def copies(to: Tensor, value: Tensor, non_blocking: bool = False) -> Tensor:
        done.append(f"copy, non_blocking={non_blocking}")
        return copy(to, value)

    def room(value: Tensor) -> Tensor:
        done.append("pinned")
        return make(value)

    monkeypatch.setattr(copying, "_is_on_cuda", lambda value: True)
    monkeypatch.setattr(copying, "_memory_for", room)
    monkeypatch.setattr(
        copying, "_arrived", lambda devices: done.append(f"wait for {len(devices)}")
    )
    monkeypatch.setattr(Tensor, "copy_", copies)
    snapshot = Snapshot(own=True)
    snapshot.copy(state)
    assert done == [*["pinned", "copy, non_blocking=True"] * 2, "wait for 1"]
    done.clear()
    snapshot.copy(state)
    assert done == [*["copy, non_blocking=True"] * 2, "wait for 1"]


# -- while writing ---------------------------------------------------------------


class Addresses:
    """Takes a file's content, and remembers where in memory the large pieces of it are."""

    def __init__(self) -> None:
        self.found: list[int] = []

    def write(self, data: Any, /) -> int:
        if len(data) > 2**20:
            self.found.append(np.frombuffer(data, np.uint8).ctypes.data)
        return len(data)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (write_torch, ["weight", "moment"]),
        (
            lambda state, out: safetensors_writer(by_name(state))(out),
            ["weight", "weight", "moment"],
        ),
    ],
    ids=["torch", "safetensors"],
)
def test_tensors_are_written_from_where_they_are(
    state, write: Callable[[Any, Any], object], expected: list[str]
) -> None:
    """The file gets the memory of each tensor itself, in one piece."""
    out = Addresses()
    write(state, out)
    weight, moment = addresses(state)
    assert out.found == [{"weight": weight, "moment": moment}[name] for name in expected]


def by_name(state: dict[str, Any]) -> dict[str, Tensor]:
    return {"weight": state["weight"], "tied": state["tied"], "moment": state["moments"][0]}


def whole(state: dict[str, Any]) -> dict[str, Any]:
    return {**{key: {} for key in SECTIONS}, "format": FORMAT, "version": VERSION, "model": state}


@pytest.mark.parametrize("name", ["state", "state.pt", "weights.pt", "weights.safetensors"])
def test_writing_makes_no_copy_of_the_state(state, tmp_path: Path, name: str) -> None:
    """A state of 2.4 MB is written with less than a buffer of 1 MB and some."""
    weights = by_name(state)

    def write() -> None:
        if name.startswith("state"):
            save_state(tmp_path / name, whole(state))
            return
        make = pt_writer if name.endswith(".pt") else safetensors_writer
        with open(tmp_path / name, "xb") as file:
            make(weights)(file)

    tracemalloc.start()
    try:
        write()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.6e6


# -- torch's format ---------------------------------------------------------------

KINDS = (
    "float64 float32 float16 bfloat16 complex64 complex128 int64 int32 int16 int8 uint8 bool "
    "uint64 uint32 uint16 float8_e4m3fn float8_e5m2"
).split()


def written(value: Any, path: Path) -> Any:
    """Write, and read with torch alone."""
    with open(path, "wb") as file:
        write_torch(value, file)
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("kind", KINDS)
def test_torch_reads_tensors_of_every_type(tmp_path: Path, kind: str) -> None:
    """With weights_only=True, bit for bit, as it does what torch.save wrote."""
    value = torch.arange(7).to(getattr(torch, kind)).reshape(1, 7)
    read = written({"a": value, "strided": value.expand(3, 7)}, tmp_path / "a.pt")
    assert read["a"].dtype == value.dtype
    assert read["a"].view(torch.uint8).equal(value.view(torch.uint8))
    assert read["strided"].shape == (3, 7)


def test_torch_reads_structures_as_they_were(tmp_path: Path) -> None:
    """Order, tuples, the versions of a module's parts, parameters, empty and shared tensors."""
    shared = torch.arange(6.0)
    value = {
        "module": torch.nn.BatchNorm1d(2).state_dict(),
        "plain": [None, True, 1, 2**70, 0.5, "ü", b"b", (1, [2]), OrderedDict(b=1, a=2)],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2),
        "views": [shared, shared[2:4], shared.reshape(2, 3).T],
        "other type": shared.view(torch.int32),
    }
    read = written(value, tmp_path / "a.pt")
    assert read["module"]._metadata == value["module"]._metadata
    assert list(read["module"]) == list(value["module"])
    assert read["plain"] == value["plain"]
    assert isinstance(read["parameter"], torch.nn.Parameter)
    assert read["empty"].shape == (0, 3)
    assert read["scalar"].item() == 2
    assert [one.tolist() for one in read["views"]] == [one.tolist() for one in value["views"]]
    assert read["views"][1].data_ptr() == read["views"][0][2:].data_ptr()
    assert read["other type"].equal(value["other type"])


def test_a_tensor_that_says_more_than_it_holds_is_written_whole(tmp_path: Path) -> None:
    """Readers take one that is larger than its file for a forgery; tied ones are written once."""
    value = torch.arange(2.0).reshape(2, 1).expand(2, 3_000_000)
    path = tmp_path / "a.pt"
    with open(path, "wb") as file:
        pt_writer({"a": value, "again": value})(file)
    assert path.stat().st_size < 25_000_000
    assert load_checkpoint(path)["a"].equal(value)


@pytest.mark.parametrize("kind", ["float8_e5m2", "uint16"])
def test_newer_types_that_say_more_than_they_hold_are_written_whole(tmp_path, kind: str) -> None:
    """Torch takes them apart in another way."""
    value = torch.ones(1).to(getattr(torch, kind)).expand(2**25)
    with open(tmp_path / "a.pt", "wb") as file:
        pt_writer({"a": value})(file)
    assert load_checkpoint(tmp_path / "a.pt")["a"].shape == (2**25,)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_are_written_as_torch_writes_them(tmp_path: Path) -> None:
    """Also from a copy."""
    value = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    for state in ({"a": value}, Snapshot(own=True).copy({"a": value})):
        read = written(state, tmp_path / "a.pt")["a"]
        assert [one.tolist() for one in read.unbind()] == [[1, 1], [1, 1, 1]]


def test_an_archive_can_be_checked_and_mapped(tmp_path: Path) -> None:
    """Every part has its CRC, and every tensor begins at a multiple of 64 bytes."""
    path = tmp_path / "a.pt"
    written({"a": torch.ones(3), "b": torch.ones(5, dtype=torch.int8)}, path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    mapped = torch.load(path, weights_only=True, mmap=True)
    assert [one.data_ptr() % 64 for one in mapped.values()] == [0, 0]
    assert mapped["b"].tolist() == [1] * 5


def test_text_that_looks_like_what_stands_for_a_tensor_stays_text(tmp_path: Path) -> None:
    """Forty hexadecimal digits, as those of a commit, beside a tensor."""
    value = {"commit": "0123456789abcdef" * 2 + "00000000", "a": torch.ones(2)}
    assert written(value, tmp_path / "a.pt")["commit"] == value["commit"]


def test_a_part_of_more_than_4_gigabytes_is_no_other_case(tmp_path: Path) -> None:
    """Sizes and places of every part stand in the form that has room for them."""
    path = tmp_path / "a.pt"
    written({"a": torch.arange(200.0)}, path)
    with zipfile.ZipFile(path) as archive:
        (info,) = [one for one in archive.infolist() if one.filename == "archive/data/0"]
    assert (info.file_size, info.extract_version) == (800, 45)
    header = path.read_bytes()[info.header_offset :][:58]
    assert struct.unpack("<2L", header[18:26]) == (0xFFFFFFFF, 0xFFFFFFFF)
    assert info.extra[:20] == struct.pack("<2H2Q", 1, 24, 800, 800)


def test_other_programs_read_an_archive(tmp_path: Path) -> None:
    """Python's own zipfile finds each part as it was written, with its CRC."""
    path = tmp_path / "a.pt"
    written({"a": torch.arange(3, dtype=torch.uint8), "b": [1, 2]}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    assert list(parts) == [
        *("archive/data.pkl", "archive/byteorder", "archive/data/0", "archive/version")
    ]
    assert parts["archive/data/0"] == bytes([0, 1, 2])
    assert parts["archive/byteorder"] == sys.byteorder.encode()
