"""One flipped bit, a missing piece: it is found, said, and the state before is used."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop_backup_and_restore import BackupAndRestore
from hookloop_model_checkpoint import ModelCheckpoint

from hookloop import Callback, CallbackList, load_weights
from hookloop.errors import StateError

SEED = 20
FLIPS, CUTS = 200, 50


class Said(Callback):
    """Keeps the lines for the user."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_message(self, text: str) -> bool:
        self.lines.append(text)
        return True


def run(folder: Path, epochs: int) -> tuple[list[str], torch.nn.Module]:
    """Begin or go on with a run that never ends; gives what it said, and its model."""
    said, model = Said(), torch.nn.Linear(3, 2)
    torch.nn.init.zeros_(model.weight)
    callbacks = CallbackList([said, BackupAndRestore(folder / "backup")], model=model)
    callbacks.on_train_begin()
    for epoch in range(epochs):
        torch.nn.init.constant_(model.weight, epoch + 1)
        callbacks.on_epoch_end(epoch)
    callbacks.on_exception(KeyboardInterrupt())
    *lines, last = said.lines
    assert last.startswith("backup_and_restore: started again, the run goes on from ")
    return lines, model


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A folder with two states, and what a test does to them there."""
    run(tmp_path, 2)
    return tmp_path


@pytest.fixture
def chance() -> random.Random:
    print(f"seed={SEED}")
    return random.Random(SEED)


def flip(path: Path, chance: random.Random) -> bytes:
    """Flip one bit; gives what was there."""
    before = path.read_bytes()
    bit = chance.randrange(len(before) * 8)
    changed = bytearray(before)
    changed[bit // 8] ^= 1 << bit % 8
    path.write_bytes(changed)
    return before


@pytest.mark.reliability("C4")
def test_any_flipped_bit_of_the_newest_state_is_found_and_the_one_before_is_used(
    whole: Path, chance: random.Random
) -> None:
    """In whichever file; one line names that state, and the sum of the file."""
    newest = whole / "backup" / "state-000002"
    files = sorted(newest.iterdir())
    sizes = [path.stat().st_size for path in files]
    for _ in range(FLIPS):
        [path] = chance.choices(files, sizes)
        before = flip(path, chance)
        (damage, going_on), model = run(whole, 0)
        assert damage.startswith(f"backup_and_restore: {newest}")
        if path.name != "manifest.json":
            assert f"{path} is damaged: its sha256 is " in damage
        assert damage.endswith(" The state before it is used.")
        assert going_on.endswith("from " + str(whole / "backup" / "state-000001") + ".")
        assert model.weight.unique().tolist() == [1.0]
        path.write_bytes(before)
    assert run(whole, 0)[1].weight.unique().tolist() == [2.0]


@pytest.mark.reliability("C4")
@pytest.mark.parametrize("name", ["whole.pt", "m.weights.pt", "m.safetensors"])
def test_any_flipped_bit_of_a_checkpoint_is_found(
    tmp_path: Path, chance: random.Random, name: str
) -> None:
    """Also where no CRC looks; the model that was to be filled stays as it is."""
    saver = ModelCheckpoint(tmp_path / name, monitor="loss", save_best_only=True)
    callbacks = CallbackList([saver], model=torch.nn.Linear(3, 2))
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0, {"loss": 0.5})
    callbacks.on_train_end()
    model, path = torch.nn.Linear(3, 2), tmp_path / name
    weights = [one.clone() for one in model.parameters()]
    for _ in range(FLIPS):
        before = flip(path, chance)
        with pytest.raises(StateError, match=name):
            load_weights(model, path)
        path.write_bytes(before)
    assert all(map(torch.equal, weights, model.parameters()))
    load_weights(model, path)


# -- missing pieces ---------------------------------------------------------------


def cut(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


DAMAGES: dict[str, Callable[[Path, random.Random], Any]] = {
    "cut off": cut,
    "empty": lambda path, chance: path.write_bytes(b""),
    "missing": lambda path, chance: path.unlink(),
    "of another state": lambda path, chance: shutil.copy(
        path.parent.parent / "state-000001" / path.name, path
    ),
}


@pytest.mark.reliability("C5")
def test_whatever_is_missing_of_the_newest_state_is_found(
    whole: Path, chance: random.Random
) -> None:
    """Cut off anywhere, empty, gone, or that of another state: the state before is used."""
    newest = whole / "backup" / "state-000002"
    shutil.copytree(newest, whole / "copy")
    names = [path.name for path in newest.iterdir()]
    trials = [("cut off", name) for name in names for _ in range(CUTS // 3)]
    trials += [(what, name) for what in list(DAMAGES)[1:] for name in names]
    for what, name in trials:
        DAMAGES[what](newest / name, chance)
        (damage, _), model = run(whole, 0)
        assert str(newest) in damage, (what, name)
        assert model.weight.unique().tolist() == [1.0], (what, name)
        shutil.rmtree(newest)
        shutil.copytree(whole / "copy", newest)


@pytest.mark.reliability("C5")
def test_a_file_that_is_not_of_the_state_is_not_looked_at(whole: Path) -> None:
    """The manifest does not name it: it is neither read nor deleted, and the state is good."""
    (whole / "backup" / "state-000002" / "extra.pt").write_bytes(b"\x80\x04")
    lines, model = run(whole, 0)
    assert len(lines) == 1
    assert model.weight.unique().tolist() == [2.0]
    run(whole, 3)
    assert os.listdir(whole / "backup" / "state-000002") == ["extra.pt"]


@pytest.mark.reliability("C6")
def test_where_all_is_damaged_nothing_begins(whole: Path, chance: random.Random) -> None:
    """Each path with its reason; the states stay as they are, for whoever can mend them."""
    states = [whole / "backup" / f"state-00000{number}" for number in (2, 1)]
    for state in states:
        flip(state / "state.json", chance)
    before = {path: path.read_bytes() for state in states for path in state.iterdir()}
    with pytest.raises(StateError, match=r"no state in .* is intact, so the run cannot") as caught:
        run(whole, 1)
    _, *reasons, fix = str(caught.value).splitlines()
    assert [line.split()[0] for line in reasons] == [f"{state}/state.json" for state in states]
    assert fix.startswith("fix: put an intact one there; to begin afresh, move ")
    assert {path: path.read_bytes() for state in states for path in state.iterdir()} == before


@pytest.mark.reliability("C4", "C5", "C6")
def test_without_the_sums_damage_would_go_unnoticed(
    whole: Path, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the tests above can fail: with sums that are not compared, they do."""
    manifest = whole / "backup" / "state-000002" / "manifest.json"
    kept = json.loads(manifest.read_bytes())["files"]["tensors.safetensors"]["sha256"]

    class Same:
        def hexdigest(self) -> str:
            return kept

    monkeypatch.setattr("hookloop.files.hashlib.sha256", lambda *data: Same())
    entries = json.loads(manifest.read_bytes())["files"]
    for entry in entries.values():
        entry["sha256"] = kept
    manifest.write_text(json.dumps({"version": 1, "files": entries}))
    tensors = manifest.with_name("tensors.safetensors")
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(data)
    lines, _ = run(whole, 0)
    assert [line.rpartition("/")[2] for line in lines] == ["state-000002."]
