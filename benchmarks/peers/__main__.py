"""hookloop beside its peers, in one run: the same models, the same data, everybody takes turns.

    make bench-peers
    .venv-bench/bin/python benchmarks/peers --quick

Every number is a multiple of what the loop by hand took in the same run; reads are counted, and
memory is what a process has more than that of the loop by hand. "quiet" is the 10th percentile.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["KERAS_BACKEND"] = "torch"
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import alone  # noqa: E402
import instructions  # noqa: E402
import reads  # noqa: E402
import rows  # noqa: E402
import torch  # noqa: E402
from figures import Ratio, ratios  # noqa: E402
from harness import options, result, save, say, table, take_turns  # noqa: E402
from trainers import TRAINERS, able  # noqa: E402

Table = dict[str, dict[str, float]]
COUNTED = "instructions a step, tiny, no callbacks"
READS = "device-to-host reads a step"
IMPORT, READY = "import", "import, trainer ready and first step made"
MEMORY = "peak memory more than by hand, MB"


def processes(rounds: int, device: str) -> tuple[dict[str, dict[str, Ratio]], Table]:
    """Start everybody in processes of their own."""
    say("start-up and memory, in processes of their own")
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in TRAINERS}
    alone.elsewhere("hookloop", device)  # its files are compiled then, as those of installed ones

    def one(name: str) -> list[float]:
        taken[name].append(alone.elsewhere(name, device))
        return []

    take_turns({name: lambda name=name: one(name) for name in TRAINERS}, rounds, warm_up=False)
    times = {
        row: ratios({name: [run[key] for run in runs] for name, runs in taken.items()}, "by hand")
        for row, key in ((IMPORT, "import"), (READY, "ready"))
    }
    least = {name: min(run["memory"] for run in runs) for name, runs in taken.items()}
    more = {name: (least[name] - least["by hand"]) / 1e6 for name in TRAINERS}
    return times, {MEMORY: more}


def counts(device: str) -> tuple[Table, dict[str, dict[str, int]]]:
    """Count reads, and instructions where that is possible."""
    found: Table = {}
    places: dict[str, dict[str, int]] = {}
    for callbacks, words in (("off", "no callbacks"), ("realistic", "realistic")):
        say(f"{READS}, {words}")
        row = found.setdefault(f"{READS}, {words}", {})
        for name in able(callbacks):
            row[name], places[f"{name}, {words}"] = reads.a_step(name, callbacks, device)
    return found, places


def counted(device: str) -> Table:
    """Count instructions, where that is possible."""
    if device != "cpu" or not instructions.available():
        say("instructions are not counted: valgrind is not installed, or the device is no CPU")
        return {}
    row = {}
    for name in TRAINERS:
        say(f"{COUNTED}: {name}")
        row[name] = instructions.a_step(name, "off")
    return {COUNTED: {name: count / row["by hand"] for name, count in row.items()}}


def measure(quick: bool, device: str) -> dict[str, Any]:
    """Measure all rows."""
    torch.set_num_threads(1)
    chosen = tuple(rows.short(row) if quick else row for row in rows.STEPS)
    timed = rows.compared(chosen, device)
    timed[rows.STALL.name] = rows.stalls(rows.short(rows.STALL) if quick else rows.STALL, device)
    started, memory = processes(1 if quick else 3, device)
    timed |= started
    read, places = counts(device)
    quiet = {row: {name: one.quiet for name, one in some.items()} for row, some in timed.items()}
    medians = {row: {name: one.median for name, one in some.items()} for row, some in timed.items()}
    counts_of = {} if quick else counted(device)
    figures = {**counts_of, **quiet, **read, **memory}
    return result("peers", figures, quick=quick, device=device, medians=medians, reads=places)


def show(found: dict[str, Any]) -> None:
    """Print the table: a row each, everybody a column."""
    lines = [
        [row, *(f"{some[name]:.2f}" if name in some else "-" for name in TRAINERS)]
        for row, some in found["figures"].items()
    ]
    print(table(["quiet, by hand = 1", *TRAINERS], lines))
    lines = [
        [row, *(f"{some[name]:.2f}" if name in some else "-" for name in TRAINERS)]
        for row, some in found["medians"].items()
    ]
    print(table(["medians", *TRAINERS], lines))


def main() -> None:
    asked = options(__doc__)
    found = measure(asked.quick, asked.device)
    show(found)
    save(found, asked.out)


if __name__ == "__main__":
    main()
