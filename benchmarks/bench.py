"""hookloop beside the same by hand, in one run: step, epochs, dispatch, start-up, data, saving.

    make bench
    .venv/bin/python benchmarks/bench.py --quick
    make bench ARGS="--device cuda"

Every figure is a ratio to the loop by hand, to a copy, to the least that Python needs: measured by
turns in the same run, as the 10th percentile of windows, which is what a quiet machine would show.
Names with "time" are times; where the same stands without it, it is instructions, counted by
callgrind: ``make bench-check`` counts them, as that takes as long as all the rest.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bounds import broken
from harness import options, result, save, say, table

Figures = dict[str, float]


@dataclass(frozen=True)
class Part:
    """A part of the benchmark.

    Attributes:
        prefix: What the names of its figures begin with.
        measure: Gives them.
        bounds: What they may be at most.
    """

    prefix: str
    measure: Callable[..., Figures]
    bounds: Mapping[str, float]

    def figures(self, quick: bool) -> Figures:
        return {f"{self.prefix}{k}": v for k, v in self.measure(quick=quick).items()}

    def limits(self, counted: bool) -> Figures:
        """Give its bounds, those of instructions only where they are counted."""
        pairs = {f"{self.prefix}{k}": v for k, v in self.bounds.items()}
        return {k: v for k, v in pairs.items() if counted or not is_count(k, pairs)}


def is_count(name: str, others: Iterable[str]) -> bool:
    """Tell whether a figure counts instructions: the time of the same has "time" in its name."""
    group, _, who = name.rpartition(": ")
    return bool({f"{group}, time: {who}", f"{name}, time"} & set(others))


def parts() -> dict[str, Part]:
    """Give all parts, by name."""
    import dispatch
    import programs
    import startup
    import step
    import waiting

    on_gpu = os.environ.get("HOOKLOOP_BENCH_DEVICE", "cpu").startswith("cuda")
    more = {"waiting": Part("GPU: ", waiting.measure, waiting.BOUNDS)} if on_gpu else {}
    return {
        **more,
        "step": Part("", step.measure, step.BOUNDS),
        "dispatch": Part("calling: ", dispatch.measure, dispatch.BOUNDS),
        "start-up": Part("start-up: ", startup.measure, startup.BOUNDS),
        "data": Part("data: ", programs.reading, programs.INPUT_BOUNDS),
        "saving": Part("saving: ", programs.saving, programs.SAVING_BOUNDS),
    }


def collect(chosen: Mapping[str, Part], *, quick: bool, counted: bool) -> Figures:
    """Measure.

    Args:
        chosen: Of the parts.
        quick: Whether a short run is enough.
        counted: Whether to count instructions too.
    """
    import counting

    can_count = counting.can_count
    counting.can_count = lambda: counted and can_count()
    try:
        found: Figures = {}
        for name, part in chosen.items():
            say(name)
            found |= part.figures(quick)
    finally:
        counting.can_count = can_count
    return found


def show(figures: Figures, bounds: Figures) -> None:
    """Print the figures with their bounds."""
    lines = [
        [name, f"{value:.3f}", f"{bounds[name]:g}" if name in bounds else ""]
        for name, value in figures.items()
    ]
    print(table(["", "found", "at most"], lines))


def main() -> None:
    asked = options(__doc__, counted={"action": "store_true", "help": "count instructions too"})
    if asked.device != "cpu":
        os.environ["HOOKLOOP_BENCH_DEVICE"] = asked.device
    import counting

    counted = asked.counted and counting.can_count()
    chosen = parts()
    figures = collect(chosen, quick=asked.quick, counted=counted)
    bounds = {k: v for part in chosen.values() for k, v in part.limits(counted).items()}
    show(figures, bounds)
    past = broken(figures, bounds)
    print("\n".join(["past their bounds:", *past]) if past else "all are within their bounds")
    found = result("bench", figures, quick=asked.quick, device=asked.device, bounds=bounds)
    save(found, asked.out)


if __name__ == "__main__":
    main()
