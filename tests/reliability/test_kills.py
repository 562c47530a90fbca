"""Processes die of SIGKILL at random, and what comes out is what would have come out anyway.

Six kills here, fifty in `tests_all/test_fifty_kills.py`, and as many as one likes in `make soak`.
"""

from __future__ import annotations

from pathlib import Path

import campaign
import pytest

SEED = 63


@pytest.mark.reliability("A1", "A2", "A3", "A5", "A6", "A7", "A9", "A11", "B1", "B6")
def test_killed_runs_end_as_the_undisturbed_one_bit_for_bit(tmp_path: Path) -> None:
    """At a batch, in validation, during a save, during a restart; several times in one run.

    With dropout, shuffling, Adam, accumulation, a schedule, plateau and early stopping that are
    both triggered, EMA, workers that augment: weights, optimizer, history, decisions, CSV, curves
    in event files, best checkpoint, random numbers.
    """
    played = campaign.play(tmp_path / "runs", 6, SEED)
    assert played.failures == {}
    assert {"batch", "save", "validation", "resume"} <= played.aimed.keys()
    assert max(len(run["died"]) for run in played.runs) >= 3
