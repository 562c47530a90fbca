"""Time spent on getting batches: ``fit`` on arrays beside a loop over a DataLoader of them.

    python benchmarks/input.py
    python benchmarks/input.py --samples 100000 --rounds 10 --json input.json

Of 100,000 samples in batches of 32, shuffled, one epoch each; contestants take turns. What decides
is the ratio to ``DataLoader(TensorDataset(x, y))``, the quickest epoch of a run each. Only the data
are timed: the batches are drawn, and nothing is done with them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch.utils.data import DataLoader, TensorDataset

from hookloop.data import make_source

LIMIT, BATCH = 0.35, 32
CPU = torch.device("cpu")


def source(data: Any, *, shuffle: bool, batch_size: int | None = BATCH) -> Callable[[], Any]:
    """What `fit` draws an epoch of its batches from."""
    made = make_source(data, batch_size=batch_size, shuffle=shuffle, device=CPU)
    return lambda: made.batches(0, 0)


def contestants(samples: int, width: int) -> dict[str, Callable[[], Iterable[Any]]]:
    """Everybody who is compared, by name; the first is what the others are measured against."""
    x, y = torch.randn(samples, width), torch.randn(samples, 1)
    shuffled = DataLoader(TensorDataset(x, y), BATCH, shuffle=True)
    ordered = DataLoader(TensorDataset(x, y), BATCH)

    def by_hand() -> Iterable[Any]:
        for rows in torch.randperm(samples).split(BATCH):
            yield x[rows], y[rows]

    return {
        "DataLoader(TensorDataset)": lambda: shuffled,
        "same, in order": lambda: ordered,
        "indexing by hand": by_hand,
        "fit((x, y))": source((x, y), shuffle=True),
        "fit((x, y)), in order": source((x, y), shuffle=False),
        "fit of arrays of NumPy": source((x.numpy(), y.numpy()), shuffle=True),
        "fit of two inputs": source(((x, x), y), shuffle=True),
        "fit(DataLoader)": source(shuffled, shuffle=True, batch_size=None),
    }


def measure(samples: int, width: int, rounds: int) -> dict[str, list[float]]:
    """Let everybody give an epoch of batches in turn; the first round is a warm-up."""
    taken: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        for name, epoch in contestants(samples, width).items():
            begun = time.thread_time()
            for _ in epoch():
                pass
            if turn:
                taken.setdefault(name, []).append(time.thread_time() - begun)
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=16, help="numbers a sample")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    taken = measure(asked.samples, asked.width, asked.rounds)
    base = next(iter(taken))
    rows = {}
    print(f"{'':28} {'us a batch':>10} {'ratio':>6} {'median':>7}")
    for name, times in taken.items():
        ratio = min(times) / min(taken[base])
        median = statistics.median(times) / statistics.median(taken[base])
        each = min(times) / -(-asked.samples // BATCH) * 1e6
        rows[name] = {"us a batch": each, "ratio": ratio, "median ratio": median}
        print(f"{name:28} {each:10.2f} {ratio:6.3f} {median:7.3f}")
    decides = rows["fit((x, y))"]["ratio"]
    print(
        f"fit((x, y)): {decides:.3f}; at most {LIMIT}: {'kept' if decides <= LIMIT else 'BROKEN'}"
    )
    if asked.json:
        asked.json.write_text(json.dumps({"samples": asked.samples, "rows": rows}, indent=1))
    return int(decides > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
