"""The kills of `tests/reliability/test_kills.py`, fifty of them, with a seed that nobody chose."""

from __future__ import annotations

from pathlib import Path

import campaign
import pytest


@pytest.mark.reliability("A1", "A2", "A3", "A5", "A6", "A7", "A9", "A11", "B1", "B6")
def test_fifty_kills_change_nothing(tmp_path: Path) -> None:
    """Whatever they hit; the seed is in what is printed, and plays the same again."""
    played = campaign.play(tmp_path / "runs", 50, limit=1200)
    assert played.failures == {}
    assert sum(played.aimed.values()) >= 50
