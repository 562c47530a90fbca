"""The benchmarks of saving and of input, which are programs of their own: run, and read."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SAVERS = ("model_checkpoint, .pt", "model_checkpoint, .safetensors", "backup_and_restore")
SAVING_BOUNDS = {
    **{f"{name}, time in copies of the state": 1.5 for name in SAVERS},
    **{f"{name}, memory in copies of the state": 1.1 for name in SAVERS},
}
INPUT_BOUNDS = {"fit((x, y)), of a DataLoader's time": 0.35}


def saving(*, quick: bool = False) -> dict[str, float]:
    """Give for how long training stands still, beside one copy of the state and ``torch.save``."""
    size, rounds = ("100", "1") if quick else ("500", "3")
    rows = _run("saving.py", "--megabytes", size, "--rounds", rounds)["rows"]
    found = {}
    for name, row in rows.items():
        found[f"{name}, time in copies of the state"] = row["ratio"]
        found[f"{name}, the same with all that slows the steps"] = row["slowed"]
        found[f"{name}, time beside torch.save"] = row["ratio to torch.save"]
        found[f"{name}, memory in copies of the state"] = row["copies"]
    return found


def reading(*, quick: bool = False) -> dict[str, float]:
    """Give how long it takes to draw the batches of an epoch, beside a ``DataLoader``."""
    rows = _run("input.py", "--rounds", "2" if quick else "6")["rows"]
    return {f"{name}, of a DataLoader's time": row["ratio"] for name, row in rows.items()}


def _run(program: str, *words: str) -> dict[str, Any]:
    """Run a program that leaves its figures as JSON; that it finds a bound broken is no failure."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, str(HERE / program), *words, "--json", str(path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if not path.exists():
            raise RuntimeError(f"{program} failed:\n{done.stderr}")
        found: dict[str, Any] = json.loads(path.read_text())
    return found
