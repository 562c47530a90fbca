"""What a bridge costs: a framework's step with three callbacks, beside the framework alone.

    .venv-in_lightning/bin/python benchmarks/bridges lightning

Both train the tiny model in turns, in one process. `quiet` is what the 10th percentile of the
rounds says, which other work on the machine touches least. The bound is 10 % of the framework's
own step, or 15 microseconds, whichever is more; nothing fails here if it is passed.
"""

from __future__ import annotations

import importlib
import os
import statistics
import sys
import tempfile

os.environ.setdefault("KERAS_BACKEND", "torch")
ROUNDS, STEPS, SHARE, MICROSECONDS = 30, 300, 0.10, 15.0
CALLBACKS = ["early_stopping:monitor=loss", "csv_logger:filename=log.csv", "terminate_on_nan"]


def quiet(times: list[float]) -> float:
    """The 10th percentile."""
    return statistics.quantiles(times, n=10)[0]


def main(framework: str) -> None:
    import torch

    torch.set_num_threads(1)
    step_seconds = importlib.import_module(f"in_{framework}").step_seconds
    alone: list[float] = []
    bridged: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for _ in range(ROUNDS):
            alone.append(step_seconds(None, STEPS))
            bridged.append(step_seconds(list(CALLBACKS), STEPS))
        os.chdir("/")
    ratios = [b / a for a, b in zip(alone, bridged, strict=True)]
    base, cost = quiet(alone) * 1e6, (quiet(bridged) - quiet(alone)) * 1e6
    bound = max(SHARE * base, MICROSECONDS)
    print(
        f"{framework}: {base:.0f} us a step alone; quiet {cost:+.1f} us with the bridge and three "
        f"callbacks, {cost / base:+.1%}; median ratio {statistics.median(ratios):.3f}; "
        f"bound {bound:.0f} us: {'held' if cost <= bound else 'PASSED'}"
    )


if __name__ == "__main__":
    main(sys.argv[1])
