"""Signals at random times, as in tests/reliability, and more of them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import signalled


@pytest.mark.reliability("D1")
def test_thirty_runs_that_sigterm_ends_go_on(tmp_path: Path) -> None:
    """Each as if nothing had been."""
    played = signalled.play(tmp_path, [["fit", signal.SIGTERM, 30]], seed=30)
    signalled.check_ended(played["fit-15"], 143)


@pytest.mark.reliability("D2", "D8")
def test_ten_runs_of_each_host_save_and_go_on(tmp_path: Path) -> None:
    """At SIGUSR1; and ten go on after a grace that was too short."""
    plays = [["fit", 10, 10], ["attach", 10, 10], ["attach", 15, 10], ["fit", 9, 10]]
    played = signalled.play(tmp_path, plays, seed=31)
    signalled.check_saved(played["fit-10"])
    signalled.check_saved(played["attach-10"])
    signalled.check_ended(played["attach-15"], 143)
    signalled.check_ended(played["fit-9"], -9)
