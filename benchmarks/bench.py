"""hookloop beside the same done by hand, in one run: step, epochs, start-up, data, saving.

    make bench
    .venv/bin/python benchmarks/bench.py --quick
    make bench ARGS="--device cuda"

Every figure is a ratio to the loop by hand, to a copy, to the least that Python needs: measured by
turns in the same run, as the 10th percentile of windows, which is what a quiet machine would show.
Names with "time" are times; the same without it are instructions, counted by callgrind.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bounds import broken  # noqa: E402
from harness import options, result, save, say, table  # noqa: E402

#: What measures, and what its figures begin with. Each has ``BOUNDS`` and ``measure(quick=)``.
MODULES = {
    "step": "",
    "dispatch": "dispatch: ",
    "startup": "start-up: ",
    "input": "data: ",
    "saving": "saving: ",
}


def collect(names: Sequence[str], *, quick: bool) -> dict[str, float]:
    """Measure.

    Args:
        names: Of modules.
        quick: Whether a short run is enough.
    """
    found: dict[str, float] = {}
    for name in names:
        say(name)
        measured = importlib.import_module(name).measure(quick=quick)
        found |= {f"{MODULES[name]}{key}": value for key, value in measured.items()}
    return found


def bounds_of(names: Sequence[str], *, counted: bool) -> dict[str, float]:
    """Give what the figures of modules may be at most.

    Args:
        names: Of modules.
        counted: Whether instructions are counted; else those have no figures.
    """
    found = {}
    for name in names:
        module = importlib.import_module(name)
        uncounted = set() if counted else getattr(module, "COUNTED_BOUNDS", set())
        found |= {
            f"{MODULES[name]}{key}": bound
            for key, bound in module.BOUNDS.items()
            if key not in uncounted
        }
    return found


def show(figures: dict[str, float], bounds: dict[str, float]) -> None:
    """Print the figures with their bounds."""
    lines = [
        [name, f"{value:.3f}", f"{bounds[name]:g}" if name in bounds else ""]
        for name, value in figures.items()
    ]
    print(table(["", "found", "at most"], lines))


def main() -> None:
    asked = options(__doc__)
    if asked.device != "cpu":
        os.environ["HOOKLOOP_BENCH_DEVICE"] = asked.device
    import counting

    names = list(MODULES)
    figures = collect(names, quick=asked.quick)
    bounds = bounds_of(names, counted=counting.can_count() and asked.device == "cpu")
    show(figures, bounds)
    past = broken(figures, bounds)
    print("\n".join(["past their bounds:", *past]) if past else "all are within their bounds")
    found = result("bench", figures, quick=asked.quick, device=asked.device, bounds=bounds)
    save(found, asked.out)


if __name__ == "__main__":
    main()
