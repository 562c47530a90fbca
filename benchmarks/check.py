"""Holds hookloop to its bounds: exits with 1 if a figure is past its own.

    make bench-check

Times are measured again once where they are past their bound, and the lower of the two estimates
counts, as other work on the machine only makes things slower. Instructions, which that does not
touch, are counted once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import bench  # noqa: E402
import counting  # noqa: E402
import growth  # noqa: E402
from bounds import broken, lower  # noqa: E402
from harness import options, say  # noqa: E402


def figures_and_bounds(names: list[str], quick: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Measure everything, with what it may be at most."""
    figures = bench.collect(names, quick=quick)
    bounds = bench.bounds_of(names, counted=counting.can_count())
    for one in growth.series(quick=True):
        figures[f"growth, order of: {one.name}"] = one.order
        bounds[f"growth, order of: {one.name}"] = one.limit
    return figures, bounds


def again(names: list[str], past: list[str], quick: bool) -> dict[str, float]:
    """Measure those modules again that have a time past its bound."""
    found: dict[str, float] = {}
    for name in names:
        keys = bench.bounds_of([name], counted=True)
        if any(
            one.partition(": ")[0] and one.startswith(f"{key}: ") for one in past for key in keys
        ):
            say(f"{name} is measured again")
            found |= bench.collect([name], quick=quick)
    if any(one.startswith("growth") for one in past):
        found |= growth.measure(quick=True)
    return found


def main() -> int:
    asked = options(__doc__)
    names = list(bench.MODULES)
    figures, bounds = figures_and_bounds(names, asked.quick)
    past = broken(figures, bounds)
    if past:
        print("\n".join(["measured again, as past their bounds:", *past]))
        figures = lower(figures, again(names, past, asked.quick))
        past = broken(figures, bounds)
    bench.show(figures, bounds)
    print("\n".join(["past their bounds:", *past]) if past else "all are within their bounds")
    return int(bool(past))


if __name__ == "__main__":
    sys.exit(main())
