"""Plays `kills.py` in a process of its own, for the tests that say how many kills it is to be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent / "kills.py"


@dataclass
class Campaign:
    """What came of it.

    Attributes:
        runs: Each as `kills.Played`, as plain data.
        aimed: For each kind of kill, how many there were.
        failures: What differs from the undisturbed run, or is wrong otherwise, by run.
    """

    runs: list[dict[str, Any]]

    @property
    def aimed(self) -> Counter[str]:
        pairs = [zip(run["plan"]["kills"], run["died"], strict=False) for run in self.runs]
        return Counter(kill["kind"] for pair in pairs for kill, _ in pair)

    @property
    def failures(self) -> dict[int, list[str]]:
        found = {run["plan"]["number"]: run["differs"] + run["wrong"] for run in self.runs}
        return {number: wrong for number, wrong in found.items() if wrong}


def play(folder: Path, kills: int, seed: int | None = None, limit: float = 600) -> Campaign:
    """Kill so many processes, and compare what they leave.

    Args:
        folder: For the runs; those that are not as they should be stay there.
        kills: How many.
        seed: Decides everything that is drawn; None draws one, which is printed.
        limit: Seconds.
    """
    results = folder.with_suffix(".json")
    command = [sys.executable, SCRIPT, folder, "--kills", str(kills), "--to", results]
    command += [] if seed is None else ["--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    print(done.stdout, done.stderr, sep="\n")  # shown by pytest if the test fails
    assert done.returncode in (0, 1), done.stderr
    return Campaign(json.loads(results.read_text())["runs"])
