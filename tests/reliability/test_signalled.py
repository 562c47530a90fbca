"""Signals at random times: real processes, and what comes out is what would have come out anyway.

Six of SIGTERM and a few of SIGUSR1 here; tests_all has thirty and twenty.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SEED = 20
SCRIPT = Path(__file__).parents[1] / "hosts" / "signalled_runs.py"
PLAYS = [["fit", signal.SIGTERM, 6], ["fit", signal.SIGUSR1, 4], ["attach", signal.SIGUSR1, 3]]
SAVED = "backup_and_restore: saved, as SIGUSR1 asks, and training goes on."
BATCHES = 60  # of four epochs


def play(folder: Path, plays: list[Any], seed: int) -> dict[str, list[dict[str, Any]]]:
    """Play runs in processes of their own; the seed says when each is signalled."""
    command = [sys.executable, str(SCRIPT), str(folder), str(seed), json.dumps(plays)]
    print(f"seed={seed}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    return play(tmp_path_factory.mktemp("signalled"), PLAYS, SEED)


def check_sigterm(results: list[dict[str, Any]]) -> None:
    """Exit 143, unless the run was over; no batch is trained twice; the end is the same."""
    for result in results:
        assert result["statuses"] in ([143, 0], [0]), result
        assert (result["batches"], result["differs"]) == (BATCHES, []), result
    assert sum(len(result["statuses"]) == 2 for result in results) > len(results) / 2


def check_sigusr1(results: list[dict[str, Any]]) -> None:
    """The run goes on to its end, having said that it has saved; the end is the same."""
    for result in results:
        assert result["statuses"] == [0], result
        assert result["said"] in (f"{SAVED}\n", ""), result
        assert (result["batches"], result["differs"]) == (BATCHES, []), result
    assert sum(SAVED in result["said"] for result in results) > len(results) / 2


@pytest.mark.reliability("D1", "D6")
def test_a_run_that_sigterm_ends_goes_on_as_if_nothing_had_been(played: Any) -> None:
    """Whenever it comes; whoever ignored it before ignores it afterwards."""
    check_sigterm(played["fit-15"])


@pytest.mark.reliability("D2")
@pytest.mark.parametrize("host", ["fit", "attach"])
def test_sigusr1_saves_and_the_run_goes_on_as_if_nothing_had_been(played: Any, host: str) -> None:
    """As Slurm sends it some time before it ends the job; Slurm itself is not needed for that."""
    check_sigusr1(played[f"{host}-10"])
