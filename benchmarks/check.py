"""Holds hookloop to its bounds: exits with 1 if a figure is past its own.

    make bench-check

A part with a time past its bound is measured once more, and the lower of the two estimates counts,
as other work on the machine only makes things slower. Instructions, which that does not touch, are
counted where valgrind is installed, once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import bench
import counting
import growth
from bench import Figures, Part
from bounds import broken, lower
from harness import options, say


def held(chosen: dict[str, Part], *, quick: bool, counted: bool) -> tuple[Figures, Figures]:
    """Measure, and measure again what has a time past its bound.

    Args:
        chosen: The parts.
        quick: Whether a short run is enough.
        counted: Whether instructions are counted.

    Returns:
        The figures, and their bounds.
    """
    figures = bench.collect(chosen, quick=quick, counted=counted)
    bounds = {k: v for part in chosen.values() for k, v in part.limits(counted).items()}
    for name, part in chosen.items():
        past = broken(figures, part.limits(counted=False))
        if past:
            say("; ".join(past))
            again = bench.collect({name: part}, quick=quick, counted=False)
            figures = lower(figures, again)
    return figures, bounds


def main() -> int:
    asked = options(__doc__)
    counted = counting.can_count() and not asked.quick
    if not counted:
        say("instructions are not counted: it is a short run, or valgrind is not installed")
    chosen = bench.parts()
    chosen["growth"] = Part("growth, ", growth.measure, growth.BOUNDS)
    figures, bounds = held(chosen, quick=asked.quick, counted=counted)
    bench.show(figures, bounds)
    past = broken(figures, bounds)
    print("\n".join(["past their bounds:", *past]) if past else "all are within their bounds")
    return int(bool(past))


if __name__ == "__main__":
    sys.exit(main())
