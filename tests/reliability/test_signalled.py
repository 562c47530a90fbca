"""Signals at random times: real processes, and what comes out is what would have come out anyway.

A few of each here; tests_all/test_signalled.py has thirty of SIGTERM and ten of the others.
"""

from __future__ import annotations

import signal

import pytest
import signalled

PLAYS = [
    ["fit", signal.SIGTERM, 6],
    ["fit", signal.SIGUSR1, 3],
    ["attach", signal.SIGUSR1, 2],
    ["fit", signal.SIGKILL, 2],
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> signalled.Results:
    return signalled.play(tmp_path_factory.mktemp("signalled"), PLAYS, seed=20)


@pytest.mark.reliability("D1", "D6")
def test_a_run_that_sigterm_ends_goes_on_as_if_nothing_had_been(played: signalled.Results) -> None:
    """Whenever it comes; whoever ignored it before ignores it afterwards."""
    signalled.check_ended(played["fit-15"], 143)


@pytest.mark.reliability("D2")
@pytest.mark.parametrize("host", ["fit", "attach"])
def test_sigusr1_saves_and_the_run_goes_on_as_if_nothing_had_been(
    played: signalled.Results, host: str
) -> None:
    """As Slurm sends it some time before it ends the job; Slurm itself is not needed for that."""
    signalled.check_saved(played[f"{host}-10"])


@pytest.mark.reliability("D8")
def test_a_grace_that_is_shorter_than_a_save_leaves_the_state_before(
    played: signalled.Results,
) -> None:
    """SIGTERM, and SIGKILL 0.2 s later, on a disk that takes longer: the run goes on from there."""
    signalled.check_ended(played["fit-9"], -9)
