"""``hookloop resume-info``: what is there, in words; which of it is intact; who uses it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hookloop
from hookloop import Callback, Trainer, files
from hookloop.checkpoints import safetensors_bytes, save_state
from hookloop.cli import main
from hookloop.resume_info import examine

X = torch.linspace(-1, 1, 8).reshape(-1, 1)


class Patient(Callback):
    """Counts up to a setting, and keeps a bit of everything."""

    def __init__(self, patience: int = 5, token: str = "t0ken", where: str = "") -> None:
        self.state: dict[str, Any] = {
            "wait": 2,
            "best": {"value": 0.3125, "epoch": 4},
            "weights": {"a": torch.zeros(2), "b": torch.zeros(1)},
            "kept": list(range(9)),
            "token": "from the server",
            "rate": float("inf"),
            "said": "https://me:pw@example.org/x",
        }

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


class Plain(Callback):
    def on_epoch_end(self) -> None: ...


class Saves(Callback):
    """Saves at every batch and epoch, as a backup does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0

    def on_batch_checkpoint(self) -> None:
        self.number += 1
        save_state(self.folder / f"state-{self.number:06d}", self.loop.state_dict())

    on_epoch_checkpoint = on_batch_checkpoint


@pytest.fixture
def backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three states: in an epoch, after its last batch, and after it."""
    monkeypatch.chdir(tmp_path)
    trainer = Trainer(nn.Linear(1, 1), loss="mse", optimizer="sgd", seed=0)
    callbacks = [Patient(where="https://me:pw@example.org/x"), Plain(), Saves(Path("backup"))]
    trainer.fit((X, X), batch_size=4, verbose=0, callbacks=callbacks)
    return Path("backup")


def test_a_folder_of_states_is_shown(backup: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each in three lines, and of the one that a run goes on from all that callbacks hold."""
    assert main(["resume-info", str(backup)]) == 0
    shown = re.sub(r"saved \S+ by .*", "saved DATE", capsys.readouterr().out)
    shown = re.sub(r"  base_logger: .*\n", "", shown)
    assert shown == (
        "backup: 3 of 3 intact\n"
        "in use by nobody\n"
        "\n"
        "state-000003  intact; a run goes on from here\n"
        "  after epoch 1 (step 2)\n"
        "  saved DATE\n"
        "  patient: wait 2 of 5, value 0.3125, epoch 4, weights 2 tensors, kept 9 values, "
        "token <secret>,\n"
        "    rate inf, said https://<secret>@example.org/x\n"
        "    set to patience=5, token='<secret>', where='https://<secret>@example.org/x'\n"
        "  without state: plain, saves, history\n"
        "\n"
        "state-000002  intact\n"
        "  in epoch 1, after batch 2 (step 2)\n"
        "  saved DATE\n"
        "\n"
        "state-000001  intact\n"
        "  in epoch 1, after batch 1 (step 1)\n"
        "  saved DATE\n"
    )


def test_all_of_it_is_there_as_json(backup: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Versions and date, position, and every callback, also those without state."""
    assert main(["resume-info", "--json", str(backup)]) == 0
    found = json.loads(capsys.readouterr().out)
    newest = found["saved"][0]
    assert [one["goes_on"] for one in found["saved"]] == [True, False, False]
    assert (newest["epoch"], newest["batch"], newest["step"]) == (1, 0, 2)
    assert newest["made"]["hookloop"] == hookloop.__version__
    assert newest["made"]["torch"] == torch.__version__
    assert newest["made"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert newest["made"]["date"].endswith("+00:00")
    by_name = {one["name"]: one for one in newest["callbacks"]}
    assert by_name["plain"] == {"name": "plain", "settings": {}, "state": None}
    assert by_name["patient"]["state"]["wait"] == "2 of 5"


def test_a_damaged_state_is_named_with_the_reason_and_the_one_before_it_is_used(
    backup: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a run would do; nothing intact is an exit status of 1."""
    os.truncate(backup / "state-000003/state.json", 10)
    assert main(["resume-info", str(backup)]) == 0
    shown = capsys.readouterr().out
    assert "2 of 3 intact" in shown
    assert re.search(r"state-000003  not intact\n  .*state.json is damaged: its size is 10", shown)
    assert "state-000002  intact; a run goes on from here" in shown
    for state in ("state-000001", "state-000002"):
        (backup / state / "manifest.json").write_bytes(b"")
    assert main(["resume-info", str(backup)]) == 1
    assert "0 of 3 intact" in capsys.readouterr().out


def test_files_are_shown_by_what_they_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of model_checkpoint: whole states, and weights in both formats."""
    model = nn.Linear(3, 2)
    trainer = Trainer(model, loss="mse", optimizer="sgd", seed=0)
    x = torch.zeros(4, 3)
    trainer.fit((x, x[:, :2]), verbose=0, callbacks=[f"model_checkpoint:filepath={tmp_path}/m.pt"])
    torch.save(model.state_dict(), tmp_path / "w.pt")
    (tmp_path / "w.safetensors").write_bytes(safetensors_bytes(model.state_dict()))
    (tmp_path / "broken.pt").write_bytes(b"PK")
    (tmp_path / "notes.txt").write_text("of the user")
    assert main(["resume-info", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("  weights: 2 tensors, 8 numbers\n") == 2
    assert "m.pt  intact\n  after epoch 1 (step 1)\n" in shown
    assert "broken.pt  not intact\n" in shown
    assert "notes" not in shown
    assert main(["resume-info", str(tmp_path / "m.pt")]) == 0
    assert "m.pt  intact; a run goes on from here\n" in capsys.readouterr().out
    assert main(["resume-info", str(tmp_path / "broken.pt")]) == 1


def test_who_holds_the_lock_is_told_without_taking_it(backup: Path) -> None:
    """While another process trains there, and after it was killed."""
    script = (
        "import sys\nfrom hookloop.files import Lock\nlock = Lock(sys.argv[1])\n"
        "lock.acquire()\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", script, backup], stdin=pipe, stdout=pipe, text=True
    ) as holder:
        assert holder.stdout is not None
        told = holder.stdout.readline()
        said = examine(backup)["lock"]
        holder.kill()
    assert told == "held\n"
    assert said.startswith(f"process {holder.pid} on ")
    assert examine(backup)["lock"] is None
    lock = files.Lock(backup)
    lock.acquire()  # nobody was kept from it
    lock.release()


@pytest.mark.parametrize("there", [True, False])
def test_where_nothing_was_saved_it_says_so(
    there: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the exit status of an error."""
    assert main(["resume-info", str(tmp_path if there else tmp_path / "absent")]) == 2
    said = "holds no saved state" if there else "does not exist"
    assert f"{said}.\nfix: name a folder of states, or a file that was saved" in (
        capsys.readouterr().err
    )


def test_a_folder_that_waits_for_its_first_save_is_said_to_be_in_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that has just begun is not mistaken for a wrong path."""
    lock = files.Lock(tmp_path)
    lock.acquire()
    try:
        assert main(["resume-info", str(tmp_path)]) == 2
    finally:
        lock.release(delete=True)
    said = capsys.readouterr().err
    assert f"holds no saved state, and is in use by process {os.getpid()} on " in said
    assert said.endswith("\nfix: wait for a save\n")


def test_one_state_is_in_use_with_its_folder_and_a_file_never(
    backup: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lock lies beside the states; of a file nobody asks."""
    lock = files.Lock(backup)
    lock.acquire()
    try:
        assert main(["resume-info", str(backup / "state-000003")]) == 0
    finally:
        lock.release(delete=True)
    assert f"in use by process {os.getpid()} on " in capsys.readouterr().out
    torch.save({"weight": torch.zeros(2)}, "weights.pt")
    assert main(["resume-info", "weights.pt"]) == 0
    assert "in use" not in capsys.readouterr().out


def test_what_a_state_says_cannot_move_the_cursor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor import anything: names in it are data."""
    saves = Saves(tmp_path / "backup")
    trainer = Trainer(nn.Linear(1, 1), loss="mse", optimizer="sgd", seed=0)
    patient = Patient(where="\x1b[2J\x07 gone")
    patient.name = "os:system"
    trainer.fit((X, X), verbose=0, callbacks=[patient, saves])
    assert main(["resume-info", str(tmp_path / "backup")]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "os:system: wait 2 of 5" in shown
