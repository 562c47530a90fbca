"""What has to come out of runs that are signalled at random times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SAVED = "backup_and_restore: saved, as SIGUSR1 asks, and training goes on."
OF_AN_EPOCH, BATCHES, SAVED_EVERY = 15, 60, 7

Results = dict[str, list[dict[str, Any]]]


def play(folder: Path, plays: list[Any], seed: int) -> Results:
    """Play runs in processes of their own; the seed says when each is signalled."""
    print(f"seed={seed}")
    script = Path(__file__).with_name("signalled_runs.py")
    command = [sys.executable, str(script), str(folder), str(seed), json.dumps(plays)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def check_ended(results: list[dict[str, Any]], status: int) -> None:
    """SIGTERM: exit 143, unless the run was over; no batch is trained twice; the end is the same.

    SIGKILL: what was trained after the last save is trained again. In either case a run that had
    cleaned up behind itself already begins afresh. One that is signalled between the checkpoint
    hook of an epoch and the next batch goes on from its last save: no saver is asked in between.
    """
    for result in results:
        assert result["statuses"] in ([status, 0], [0]), result
        assert result["differs"] == [], result
        if status == 143:
            afresh = len(result["statuses"]) == 2 and "going on" not in result["said"]
            between = not result["batches"][0] % OF_AN_EPOCH
            twice = sum(result["batches"]) - BATCHES * (1 + afresh)
            assert 0 <= twice < SAVED_EVERY * between + 1, result
    assert sum(len(result["statuses"]) == 2 for result in results) > len(results) / 3


def check_saved(results: list[dict[str, Any]]) -> None:
    """SIGUSR1: the run goes on to its end, having said that it has saved; the end is the same."""
    for result in results:
        assert result["statuses"] == [0], result
        assert result["said"] in (f"{SAVED}\n", ""), result
        assert (result["batches"], result["differs"]) == ([BATCHES], []), result
    assert sum(SAVED in result["said"] for result in results) > len(results) / 3
