"""Counting instructions with callgrind: what a program does, whatever else the machine does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

#: A function of the C library that nobody calls otherwise: at each call callgrind writes what it
#: has counted, and begins at 0.
_MARK = "getpgid"


def can_count() -> bool:
    return shutil.which("valgrind") is not None


def mark() -> None:
    """Begin a stretch that counts, or end it: called twice for each."""
    os.getpgid(0)


def count(command: Sequence[str]) -> list[int]:
    """Run a program, and give the instructions of each of its stretches.

    Python's hashes are the same in every run, and torch has one thread.
    """
    return _run(command)[1:-1:2]


def count_all(command: Sequence[str]) -> int:
    """Run a program without marks, and give all its instructions, those of Python's start too."""
    return sum(_run(command))


def _run(command: Sequence[str]) -> list[int]:
    """Give the instructions between all marks, with the start and the end of the program."""
    fixed = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        counted = ["valgrind", "--tool=callgrind", f"--dump-before={_MARK}"]
        subprocess.run(
            [*counted, f"--callgrind-out-file={folder}/out", *command],
            check=True,
            env=os.environ | fixed,
            capture_output=True,
        )
        parts = {}
        for dump in Path(folder).iterdir():
            text = dump.read_text(errors="replace")
            part = re.search(r"^part: (\d+)$", text, re.MULTILINE)
            total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
            if part and total:
                parts[int(part[1])] = int(total[1])
        return [parts[number] for number in sorted(parts)]
