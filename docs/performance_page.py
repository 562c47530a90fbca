"""Writes docs/performance.md from what the benchmarks have found: benchmarks/results/*.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OURS, BY_HAND = "hookloop", "by hand"
#: Two runs on one machine differ by so much; whoever is nearer than that is not behind.
NOISE = 0.03
#: Where hookloop is not ahead of everybody: why. A row that needs one and has none is an error.
WHY = {
    "epochs of 5 steps, tiny, realistic": (
        "an epoch takes a millisecond here, and hookloop's checkpoint of each is on the disk "
        "(`fsync`) before the next is written; the others leave theirs to the system, and a power "
        "cut takes it"
    ),
    "import": (
        "the import is that of torch, which everybody has; hookloop's own part, with pluggy and "
        "what it reads of the installed packages, is a few hundredths of a second"
    ),
    "import, trainer ready and first step made": (
        "nearly all of it is the import of torch, which everybody has"
    ),
    "peak memory more than by hand, MB": (
        "what is imported of hookloop, NumPy and safetensors; it does not grow with the run"
    ),
    "step, mid, no callbacks": (
        "a step of this model takes so long that what a trainer adds is lost in the noise: those "
        "who add little cannot be told apart"
    ),
    "step, mid, realistic": ("the same: what differs between those who add little is noise"),
    "device-to-host reads a step, no callbacks": "nobody can read less often than never",
    "device-to-host reads a step, realistic": "nobody can read less often than never",
    "training stands still for a save of 100 MB": (
        "what hookloop writes is on the disk (`fsync`) when it is renamed into place, and is "
        "checked; the others leave it to the system, and a power cut takes it. The steps that "
        "follow share the processor and the disk with the writer"
    ),
}
#: Parts of the benchmark by what the names of their figures begin with.
PARTS = {
    "calling": "Calling callbacks",
    "start-up": "Start-up, with 600 other packages installed",
    "data": "Drawing batches from arrays",
    "GPU": "Waiting for the GPU",
}
SHORT_RUN = "this was a short run, which says little"
MEANING = """\
Each number is how many times as long it takes as the same loop written by hand, measured in the
same run: contestants take turns, so that what else the machine does meets all of them, and the
10th percentile of short windows is taken, which is what a quiet machine would show. Absolute
times decide nothing. Reads are counted, and memory is what a process has more than that of the
loop by hand."""
CALLBACKS = """\
*Realistic* is a progress bar, a CSV, early stopping, a checkpoint an epoch, a learning rate that
follows the loss, and a guard against NaN: by the trainer's own callbacks where it has them, by a
few lines of ours where it has none. The loop by hand, that of all rows, trains and does nothing of
it. *Tiny* is a network of 16-32-1 with batches of 32, *mid* one of 784-512-10 with batches of 128,
on one thread. Everybody gets the same ready-made batches, the
same `torch.optim.Adam` (Keras its own), and everything off that can be off. The best of a row, and
who cannot be told from it, are **bold**."""


def page(results: Path, note: str) -> str:
    """Write the page.

    Args:
        results: Folder with the JSON.
        note: What says at its top that it is generated.
    """
    bench, peers, growth = (read(results, what) for what in ("bench", "peers", "growth"))
    parts = [
        "# Performance",
        note,
        "What a training loop costs that has callbacks: beside the loop that people write by\n"
        "hand, and beside other trainers. [How to measure it yourself](#how-to-measure-it) is at\n"
        "the end.",
        "## How it is measured",
        MEANING,
        machines({"by hand": bench, "peers": peers, "growth": growth}),
        "## Beside the loop by hand",
        "Each is a ratio: to the loop by hand, to direct calls of the methods, to the least that\n"
        "Python does, to a `DataLoader` over the same arrays, to one copy of the state. With 5\n"
        "steps an epoch the realistic callbacks are set beside a loop that does the same by hand:\n"
        "a row, and a synced checkpoint from which the run goes on as if nothing had been. The\n"
        "loop by hand has `torch.optim.Adam` as it is; by name it is the fused one, which by hand\n"
        "is `fused=True`.",
        by_hand_tables(bench),
        "## Beside other trainers",
        CALLBACKS,
        "![Bars: how many times as long as the loop by hand](pictures/performance-peers.svg)",
        peers_table(peers),
        "### Where hookloop is not ahead",
        not_ahead(peers["figures"], short_run=peers["quick"]),
        "### Where numbers are read",
        reads_table(peers["reads"]),
        "## How costs grow",
        "The order is the slope through the logarithms: 0 for a cost that stays what it is, 1 for\n"
        "one that doubles with the size. A checkpoint holds the whole history, so its cost has\n"
        "the order 1 in the end; 100,000 epochs are 1.7 MB.",
        "![Each cost over its size](pictures/performance-growth.svg)",
        growth_table(growth["figures"]),
        "## How to measure it",
        HOW,
    ]
    return "\n\n".join(parts) + "\n"


SAVING = """\
Time is what training stands still in the hook, and waits for the interpreter's lock behind it, and
by which its steps are slower than beside another process that writes as much. Any writer slows
them, as it uses the same caches and the same memory; with that in it, the next column.
From the second save on: the first one fills fresh memory, which takes several times as long, and
one that comes while the last is being written waits for it. `.safetensors` holds the weights alone.
In place (`async_save=False`), training waits for sums and disk: dearer than `torch.save`."""
HOW = """\
```console
make bench          # beside the loop by hand: about three minutes
make bench-peers    # beside other trainers, in an environment of their own
make bench-growth   # how costs grow
make bench-check    # exits with 1 if a figure is past its bound
make bench-page     # this page, from what they found
```

Each takes `ARGS="--quick"` for a short run and `ARGS="--device cuda"` for a GPU, and leaves its
figures in `benchmarks/results/`. Instructions are counted where valgrind is installed."""


def read(results: Path, what: str) -> dict[str, Any]:
    """Read a result."""
    found: dict[str, Any] = json.loads((results / f"{what}.json").read_text(encoding="utf-8"))
    return found


def machines(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Tell where and when each was measured."""
    rows = []
    for name, one in found.items():
        about = one["machine"]
        machine = f"{about['processor']}, {about['cores']} cores, {about['system']}"
        machine += f", {about['gpu']}" if "gpu" in about else ""
        versions = ", ".join(f"{k} {v}" for k, v in one["versions"].items())
        length = " (a short run)" * one["quick"]
        rows.append([name, one["date"] + length, machine, str(one["load"]), versions])
    return table(["what", "when", "machine", "load", "versions"], rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Write a table of Markdown; numbers to the right of a first column of words."""
    lines = [head, ["---", *["---"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def by_hand_tables(bench: Mapping[str, Any]) -> str:
    """Write the figures with their bounds: a table for each part of the benchmark."""
    bounds, parts = bench["bounds"], dict[str, dict[str, dict[str, str]]]()
    for name, value in bench["figures"].items():
        part, row, column = placed(name)
        cell = f"{number(value)}" + (f" (at most {bounds[name]:g})" if name in bounds else "")
        parts.setdefault(part, {}).setdefault(row, {})[column] = cell
    tables = [f"### {part}\n\n{table_of(rows)}" for part, rows in parts.items()]
    return "\n\n".join([*tables, SAVING])


def placed(name: str) -> tuple[str, str, str]:
    """Tell the part, row and column in which a figure of the benchmark stands."""
    part, _, rest = name.partition(": ")
    if part == "saving":
        row, _, column = rest.rpartition(", ")
        return "Saving 500 MB", row, column
    if part in PARTS:
        time = rest.endswith(", time")
        columns = {"start-up": "time" if time else "instructions or ms"}
        return PARTS[part], rest.removesuffix(", time"), columns.get(part, "ratio")
    group, _, row = name.partition(", time: ")
    column = "time" if row else "instructions"
    return "Training steps", f"{group}: {row}" if row else name, column


def table_of(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Write a row each, and a column for each kind of figure."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [[name, *(row.get(column, "") for column in columns)] for name, row in rows.items()]
    return table(["", *columns], lines)


def number(value: float) -> str:
    """Write a number with as many digits as say something."""
    if abs(value) >= 100 or value == round(value):
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}" if 0.95 <= value <= 1.2 else f"{value:.2f}"


def peers_table(peers: Mapping[str, Any]) -> str:
    """Write every row with everybody in it; whoever is best, or level with the best, in bold."""
    rows = peers["figures"]
    names = list(dict.fromkeys(name for row in rows.values() for name in row if name != BY_HAND))
    lines = []
    for title, row in rows.items():
        best = min(value for name, value in row.items() if name != BY_HAND)
        cells = [
            "" if name not in row
            else f"**{number(row[name])}**" if level(row[name], best) else number(row[name])
            for name in names
        ]  # fmt: skip
        lines.append([title, *cells])
    return table(["", *names], lines)


def level(value: float, best: float) -> bool:
    """Tell whether two figures cannot be told apart."""
    return value - best <= NOISE * max(abs(best), abs(value))


def not_ahead(rows: Mapping[str, Mapping[str, float]], *, short_run: bool = False) -> str:
    """Name each row in which somebody is level with hookloop or ahead of it, and say why.

    Args:
        rows: The figures.
        short_run: Whether they are of one, where noise is reason enough.

    Raises:
        ValueError: If there is one without a reason.
    """
    reasons = {**dict.fromkeys(rows if short_run else (), SHORT_RUN), **WHY}
    lines = []
    for title, row in rows.items():
        others = {k: v for k, v in row.items() if k not in (OURS, BY_HAND)}
        ahead = [k for k, v in others.items() if v < row[OURS] and not level(row[OURS], v)]
        same = [k for k, v in others.items() if k not in ahead and level(row[OURS], v)]
        same = [k for k in same if level(others[k], row[OURS])]
        if not ahead and not same:
            continue
        if title not in reasons:
            raise ValueError(f"{title!r} needs a reason in WHY of docs/performance_page.py")
        who = [f"ahead: {', '.join(ahead)}"] * bool(ahead) + [f"level: {', '.join(same)}"] * bool(
            same
        )
        lines.append(f"- **{title}** ({'; '.join(who)}): {reasons[title]}.")
    return "\n".join(lines) or "It is ahead in every row."


def reads_table(reads: Mapping[str, Mapping[str, int]]) -> str:
    """Tell where each trainer reads, of a hundred steps."""
    rows = [
        [who, ", ".join(f"`{place}` ({count} of 100 steps)" for place, count in places.items())]
        for who, places in reads.items()
        if places and not who.startswith(BY_HAND)
    ]
    text = (
        "Each is a wait for everything that a GPU has still to do. Where a trainer is not named,\n"
        "it reads nothing. hookloop reads on a CPU, where that is cheaper than a sum on the\n"
        "device, and is told here that it is not on one."
    )
    return f"{text}\n\n{table(['who', 'where'], rows)}"


def growth_table(series: Mapping[str, Any]) -> str:
    """Write each series: its sizes, what it costs at both ends, and its order."""
    rows = [
        [
            name,
            f"{one['sizes'][0]:,.0f} to {one['sizes'][-1]:,.0f}",
            f"{number(one['costs'][0])} {one['unit']}",
            f"{number(one['costs'][-1])} {one['unit']}",
            f"{one['order']:.2f}",
            f"{one['limit']:g}",
        ]
        for name, one in series.items()
    ]
    return table(["what", "sizes", "at the first", "at the last", "order", "at most"], rows)
