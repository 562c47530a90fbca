"""The benchmarks run: what they measure is another matter, and of no interest in a short run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("what", ["bench", "growth"])
def test_a_short_run_leaves_its_figures(what: str, tmp_path: Path) -> None:
    """It ends well, and its JSON has numbers."""
    program = str(ROOT / "benchmarks" / f"{what}.py")
    subprocess.run([sys.executable, program, "--quick", "--out", str(tmp_path)], check=True)

    found = json.loads((tmp_path / f"{what}.json").read_text())
    assert found["quick"]
    assert found["figures"]
