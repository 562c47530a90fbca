"""The step of `fit` beside the same loop written by hand, in one run: time, and instructions.

    python benchmarks/step.py                  time, and instructions where valgrind is installed
    python benchmarks/step.py --no-instructions

Contestants take turns, so that what the machine does meanwhile meets all of them. "quiet" is the
10th percentile of windows of 50 steps. What decides is the ratio to the bare loop of the same run.
Instructions are counted by callgrind over 150 steps that follow 50 others, with the garbage
collector off, as its rounds fall where they fall.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS = 1000
COUNTED = (50, 200)


def time_steps(rounds: int) -> dict[str, list[float]]:
    """Measure seconds a step, in windows, contestants taking turns."""
    import torch
    from contestants import Batches, contestants

    torch.set_num_threads(1)
    everybody = contestants()
    windows: dict[str, list[float]] = {name: [] for name in everybody}
    for turn in range(rounds + 1):
        for name, run in everybody.items():
            batches = Batches(STEPS)
            run(batches)
            if turn:  # the first is a warm-up
                windows[name] += batches.windows[1:]
    return windows


def count_instructions() -> dict[str, float]:
    """Count instructions a step of every contestant, in one process under callgrind."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", sys.executable]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [*command, __file__, "--counted"], check=True, env=environment, capture_output=True
        )
        found = {}
        for dump in out.parent.glob("callgrind.*"):
            text = dump.read_text(errors="replace")
            name = re.search(r"^desc: Trigger: dump end (.*)$", text, re.MULTILINE)
            total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
            if name and total:
                found[name[1].replace("_", " ")] = int(total[1]) / (COUNTED[1] - COUNTED[0])
    return found


def run_counted() -> None:
    """Be the process under callgrind: dump the counts at the first and the last step that count."""
    from contestants import Batches, contestants

    gc.disable()
    for name, run in contestants().items():
        batches = Batches(COUNTED[1] + 1, window=50)
        label = name.replace(" ", "_")

        def at_window(index: int, label: str = label) -> None:
            if index in COUNTED:
                _dump(f"{'begin' if index == COUNTED[0] else 'end'} {label}")

        batches.at_window = at_window
        run(batches)


def _dump(name: str) -> None:
    subprocess.run(
        ["callgrind_control", f"--dump={name}", str(os.getpid())], check=True, capture_output=True
    )


def report(windows: dict[str, list[float]], instructions: dict[str, float]) -> None:
    quiet = {name: statistics.quantiles(some, n=10)[0] for name, some in windows.items()}
    median = {name: statistics.median(some) for name, some in windows.items()}
    base = next(iter(windows))
    print(f"{'tiny model':26} {'quiet us':>9} {'ratio':>6} {'median':>7}", end="")
    print(f" {'instructions':>12} {'ratio':>6}")
    for name in windows:
        line = f"{name:26} {quiet[name] * 1e6:9.1f} {quiet[name] / quiet[base]:6.3f}"
        line += f" {median[name] / median[base]:7.3f}"
        if name in instructions:
            count = instructions[name]
            line += f" {count:12,.0f} {count / instructions[base]:6.3f}"
        print(line)
    if not instructions:
        print("instructions: not counted (valgrind is not installed, or was not asked for)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-instructions", action="store_true")
    parser.add_argument("--counted", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.counted:
        run_counted()
        return
    counted = not arguments.no_instructions and shutil.which("callgrind_control") is not None
    report(time_steps(arguments.rounds), count_instructions() if counted else {})


if __name__ == "__main__":
    main()
