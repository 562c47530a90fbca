"""The tests of hostile files and words, at length: with a seed of their own each time, printed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import hostile
import pytest
from fuzzing import fuzz

ROOT = Path(__file__).parents[1]


@pytest.mark.reliability("H4")
def test_ten_thousand_random_and_mutated_files(tmp_path: Path) -> None:
    """An error of ours or a result, within bounds of time and memory."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"{seed=}")
    hostile.lay_out(tmp_path / "files", hostile.good_states()[1])
    found = fuzz(tmp_path / "files", seed, 10_000)
    print(found)
    assert found["refused"] > 5_000


@pytest.mark.reliability("G2", "G3", "G6", "H4")
def test_more_words_and_every_forged_value() -> None:
    """The same tests with ten times as many examples, and all values of a state replaced."""
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
            "tests/reliability/test_hostile_words.py",
            "tests/reliability/test_hostile_files.py", "-k", "words or forged",
        ],
        env={**os.environ, "HOOKLOOP_EXAMPLES": "1500", "HOOKLOOP_FORGED": "1.0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    print(done.stdout[-3000:])
    assert done.returncode == 0
