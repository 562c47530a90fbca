"""A loop written by hand that is killed and started again ends as if it had not been, bit for bit.

With dropout, shuffling, augmentation in workers, Adam, a scheduler, accumulation, early stopping,
plateau, CSV and two kinds of checkpoints, in processes that are really killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUNS = Path(__file__).parent / "hosts" / "attached_runs.py"
BATCH, STEP, TEST, EPOCH = (
    "on_train_batch_end",
    "on_before_optimizer_step",
    "on_test_batch_end",
    "on_epoch_begin",
)
SIGTERM = 15


def kill(hook: str, at: int, number: int = 9) -> dict[str, Any]:
    return {"hook": hook, "at": at, "number": number}


def case(data: str, *ends: dict[str, Any], save_freq: Any = 3) -> dict[str, Any]:
    return {"data": data, "settings": {"save_freq": save_freq}, "ends": list(ends)}


# An epoch has 11 batches (10 of the list) in 6 windows, and 3 batches of validation.
KILLED = {
    "inside an epoch": case("loader", kill(BATCH, 26)),
    "inside a window": case("loader", kill(STEP, 9), save_freq=2),
    "between epochs": case("loader", kill(EPOCH, 4), save_freq="epoch"),
    "in validation": case("loader", kill(TEST, 8)),
    "three times": case("loader", kill(BATCH, 17), kill(BATCH, 9), kill(TEST, 4)),
    "during a save": case("loader", {"disk": 12}),
    "own generator": case("generator", kill(BATCH, 29)),
    "list": case("list", kill(BATCH, 17)),
    "workers that augment": case("workers", kill(BATCH, 29)),
    "persistent workers, between epochs": case("persistent", kill(EPOCH, 3), save_freq="epoch"),
    "by SIGTERM": case("loader", kill(BATCH, 26, SIGTERM), save_freq="epoch"),
    "by SIGTERM in validation": case("loader", kill(TEST, 5, SIGTERM), save_freq="epoch"),
}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All scenarios, each in processes of its own."""
    ran = subprocess.run(
        [sys.executable, RUNS, tmp_path_factory.mktemp("runs"), json.dumps(KILLED)],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-4000:]
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", KILLED)
def test_a_killed_run_ends_as_if_it_had_not_been(played: dict[str, Any], name: str) -> None:
    """Weights, optimizer, scheduler, history, decisions, files and random numbers agree."""
    result = played[name]
    wanted = [143 if end.get("number") == SIGTERM else -9 for end in KILLED[name]["ends"]]
    assert result["statuses"] == [*wanted, 0]
    assert result["differs"] == []


def test_what_was_trained_is_not_trained_again(played: dict[str, Any]) -> None:
    """After SIGTERM nothing is lost: the two runs together have as many batches as one."""
    epochs = len(played["by SIGTERM"]["epochs"])
    assert sum(played["by SIGTERM"]["batches"]) == 11 * epochs


def test_what_skipping_costs_is_said(played: dict[str, Any]) -> None:
    """Where batches have to be drawn again to be thrown away."""
    assert "drawn again and thrown away" in played["workers that augment"]["said"]
    assert "thrown away" not in played["inside an epoch"]["said"]
