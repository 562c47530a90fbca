"""A disk that loses its power in the middle of saves keeps what was acknowledged.

A real ext4, shut down by the kernel. That takes root and a loop device: where either is lacking
there is no such test, and `tests/reliability/test_crash_states.py` stands for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HOST = Path(__file__).with_name("power_loss.py")
SPACE = ["unshare", "--mount"]
TRIALS, SEED = 20, 4


def can_lose_power(folder: str = "/mnt") -> bool:
    """Tell whether a file system in a file can be mounted here, out of sight of all others."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    script = (
        "truncate -s 2M /tmp/hookloop.$$ && mkfs.ext4 -q -F /tmp/hookloop.$$ && "
        f"mount -o loop /tmp/hookloop.$$ {folder} && umount {folder}; "
        "status=$?; rm -f /tmp/hookloop.$$; exit $status"
    )
    command = [*SPACE, "sh", "-c", script]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def play(folder: Path, trials: int, *how: str) -> list[dict[str, Any]]:
    print(f"seed={SEED}")
    command = [*SPACE, sys.executable, HOST, folder, f"{trials}", f"{SEED}", *how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


if can_lose_power():

    @pytest.mark.reliability("B4")
    def test_no_power_cut_loses_an_acknowledged_save(tmp_path: Path) -> None:
        """Whenever it comes: the newest state that is there is whole, and none is damaged."""
        for trial in play(tmp_path, TRIALS):
            assert trial["read"] >= trial["acknowledged"]
            assert trial["whole"]
            assert trial["damaged"] == []

    @pytest.mark.reliability("B4")
    def test_without_syncing_it_would(tmp_path: Path) -> None:
        """So the test above can fail."""
        trials = play(tmp_path, 4, "careless")
        assert [one for one in trials if (one["read"] or 0) < one["acknowledged"]] != []
