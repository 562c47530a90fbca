"""One run at a time has a folder for backups; who only reads needs nobody's leave."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hookloop_backup_and_restore import _states
from write_paths import state

from hookloop import files
from hookloop.checkpoints import load_state
from hookloop.errors import StateError

HOST = Path(__file__).parents[1] / "hosts" / "two_runs.py"
PAIRS = 4


@pytest.mark.reliability("I1")
def test_of_two_runs_that_start_together_one_trains_and_the_other_says_who_does(
    tmp_path: Path,
) -> None:
    """Within a second, and not with status 0: which process, on which machine, since when."""
    command = [sys.executable, HOST, tmp_path, f"{PAIRS}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    for pair in json.loads(ran.stdout.splitlines()[-1]):
        assert pair["statuses"] == [0, 1]
        assert pair["seconds"] < 1
        host, since = re.escape(socket.gethostname()), r"\d+-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}"
        who = rf"process {pair['trained']} on {host}, since {since}"
        assert re.search(rf"backup is in use by {who}\.\nfix: wait for it to end", pair["error"])


@pytest.mark.reliability("I3")
def test_who_reads_needs_no_lock_and_never_sees_half_of_a_state(tmp_path: Path) -> None:
    """While another run holds the folder and saves one state after the other."""
    lock = files.Lock(tmp_path)
    lock.acquire()
    _states.write(tmp_path, state(1), 2, [])
    over = threading.Event()

    def save() -> None:
        for number in range(2, 60):
            _states.write(tmp_path, state(number), 2, [])
        over.set()

    saving = threading.Thread(target=save)
    saving.start()
    seen = []
    while not over.is_set():
        for path in _states.found(tmp_path)[:1]:  # the newest: an older one may be deleted
            try:
                seen.append(load_state(path)["loop"]["epoch"])
            except StateError:  # two were saved while this one was being read
                assert not path.exists()
    saving.join()
    lock.release()
    assert seen == sorted(seen)
    assert len(set(seen)) > 5
