"""A run that is killed and started again ends as if nothing had happened, bit for bit.

Dropout, shuffling, Adam, accumulation, early stopping, plateau, CSV and two kinds of checkpoints:
the whole state of the run, the CSV and the checkpoints are compared with the undisturbed run's.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import playing
import pytest

# An epoch has 11 batches in 6 windows, and 3 batches of validation; the run stops after 6 of 8.
BATCH, STEP, TEST, EPOCH = (
    "on_train_batch_end",
    "on_before_optimizer_step",
    "on_test_batch_end",
    "on_epoch_begin",
)
SIGINT, SIGTERM = 2, 15


def kill(hook: str, at: int) -> dict[str, Any]:
    return {"hook": hook, "at": at}


KILLED: dict[str, dict[str, Any]] = {
    "in the first epoch": {"ends": [kill(BATCH, 4)]},
    "inside an epoch": {"ends": [kill(BATCH, 26)]},
    "inside a window": {"settings": {"save_freq": 2}, "ends": [kill(STEP, 9)]},
    "between epochs": {"ends": [kill(EPOCH, 4)]},
    "in validation": {"settings": {"save_freq": 3}, "ends": [kill(TEST, 8)]},
    "twice": {"settings": {"save_freq": "3 steps"}, "ends": [kill(BATCH, 17), kill(BATCH, 20)]},
    "soon after going on": {
        "settings": {"save_freq": 4},
        "ends": [kill(BATCH, 30), kill(BATCH, 1)],
    },
    "in place": {"settings": {"save_freq": 3, "async_save": False}, "ends": [kill(BATCH, 40)]},
    "in the last epoch": {"settings": {"save_freq": 1}, "ends": [kill(TEST, 17)]},
    "loader": {"data": "loader", "settings": {"save_freq": 3}, "ends": [kill(BATCH, 26)]},
    "generator": {"data": "generator", "settings": {"save_freq": 4}, "ends": [kill(BATCH, 29)]},
    "workers": {"data": "workers", "settings": {"save_freq": 4}, "ends": [kill(BATCH, 29)]},
}
DURING_A_SAVE = {f"before effect {n}": {"ends": [{"disk": n}]} for n in range(6, 26, 2)}
SIGNALLED: dict[str, dict[str, Any]] = {
    "inside an epoch": {"ends": [{**kill(BATCH, 26), "number": SIGTERM}]},
    "inside a window": {"ends": [{**kill(BATCH, 25), "number": SIGTERM}]},
    "in validation": {"ends": [{**kill(TEST, 5), "number": SIGTERM}]},
    "by Ctrl-C": {"ends": [{**kill(BATCH, 26), "number": SIGINT}]},
}


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All runs of this file, in processes of their own."""
    groups = {"killed": KILLED, "saving": DURING_A_SAVE, "signalled": SIGNALLED}
    scenarios = {
        f"{group} {name}": scenario
        for group, named in groups.items()
        for name, scenario in named.items()
    }
    folder = nullcontext(tmp_path_factory.mktemp("backup_runs"))
    return playing.once("killed_runs.py", tmp_path_factory, folder, json.dumps(scenarios))


@pytest.mark.reliability("A1", "A2", "A3", "A5", "A6", "A7")
@pytest.mark.parametrize("name", KILLED)
def test_a_killed_run_that_is_started_again_is_the_undisturbed_run(
    played: dict[str, Any], name: str
) -> None:
    """Wherever it was killed, and however often."""
    result = played[f"killed {name}"]
    assert result["statuses"] == [-9] * len(KILLED[name]["ends"]) + [0]
    assert result["epochs"] == [0, 1, 2, 3, 4, 5]
    assert result["differs"] == []


@pytest.mark.reliability("B1")
@pytest.mark.parametrize("name", DURING_A_SAVE)
def test_a_run_that_is_killed_while_it_saves_loses_nothing(
    played: dict[str, Any], name: str
) -> None:
    """Before any of the effects on files that a save consists of."""
    result = played[f"saving {name}"]
    assert result["statuses"] == [-9, 0]
    assert result["differs"] == []


@pytest.mark.parametrize(
    ("name", "status", "batches", "where"),
    [
        ("inside an epoch", 143, [26, 40], "in epoch 3, after batch 4 (step 14)"),
        ("inside a window", 143, [26, 40], "in epoch 3, after batch 4 (step 14)"),
        ("in validation", 143, [22, 44], "in epoch 2, after batch 11 (step 12)"),
        ("by Ctrl-C", 130, [26, 40], "in epoch 3, after batch 4 (step 14)"),
    ],
    ids=list(SIGNALLED),
)
def test_a_signal_saves_at_once_though_saves_are_once_an_epoch(
    played: dict[str, Any], name: str, status: int, batches: list[int], where: str
) -> None:
    """No batch is trained twice, 66 are trained in all, and the result is the same."""
    result = played[f"signalled {name}"]
    assert result["statuses"] == [status, 0]
    assert result["batches"] == batches
    assert result["said"].startswith(f"backup_and_restore: going on {where}, from backup/state-")
    assert result["differs"] == []


def test_a_run_that_has_finished_leaves_nothing(played: dict[str, Any]) -> None:
    """Neither states nor what dead processes left of theirs, nor the lock, nor the folder."""
    assert [result["left"][-1] for result in played.values()] == [[]] * len(played)
    assert [
        name for name, result in played.items() if Path(result["folder"], "backup").exists()
    ] == []
