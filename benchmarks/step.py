"""The step of `fit` beside the same loop written by hand, in one run: time, and instructions.

    python benchmarks/step.py                  time, and instructions where valgrind is installed
    python benchmarks/step.py --no-instructions

Contestants take turns, so that what the machine does meanwhile meets all of them. "quiet" is the
10th percentile of windows of 50 steps. What decides is the ratio to the bare loop of the same run.
Instructions are counted by callgrind over 50 steps that follow 50 others, with the garbage
collector off, as its rounds fall where they fall.

Measured twice: with one long epoch, which is the step; and with 5 steps an epoch, which is the
step and a fifth of what is done between two epochs. There the realistic callbacks write a row and
a checkpoint after every fifth step, and are compared with a loop that does so by hand. What decides
there is time, as much of it is waiting for the disk.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from collections.abc import Mapping

import counting

STEPS, SHORT = 1000, 5
COUNTED = (50, 100)
#: Largest ratio to the loop by hand; instructions, unless time is said.
BOUNDS = {
    "step: fit": 1.02,
    "step: 5 no-op callbacks": 1.04,
    "step: realistic callbacks": 1.06,
    "step: optimizer by name": 0.85,
    "step, time: fit": 1.06,
    "step, time: 5 no-op callbacks": 1.06,
    "step, time: 50 no-op callbacks": 1.12,
    "step, time: realistic callbacks": 1.10,
    "step, time: optimizer by name": 0.85,
    "5 steps an epoch: fit": 1.10,
    "5 steps an epoch, time: fit": 1.10,
    "5 steps an epoch, time: realistic callbacks": 1.15,
}
#: Those of `BOUNDS` that callgrind has to count.
COUNTED_BOUNDS = {name for name in BOUNDS if ", " not in name}
#: Names of what is measured, and those who are compared there; each is measured against the first.
GROUPS = ("step", "5 steps an epoch", "5 steps an epoch, the same by hand")


def measure(*, quick: bool = False) -> dict[str, float]:
    """Give ratios to the loop by hand, by the names of `BOUNDS` and more.

    Args:
        quick: Whether a few rounds are enough. Instructions are counted where valgrind is.
    """
    windows = time_steps(2 if quick else 8)
    quiet = {name: quiet_of(some) for name, some in windows.items()}
    times = {_timed(name): ratio for name, ratio in ratios(quiet).items()}
    return {**ratios(count_instructions() if counting.can_count() else {}), **times}


def ratios(measured: Mapping[str, float]) -> dict[str, float]:
    """Divide what was measured by what the first of its group has."""
    found = {}
    for group, names in _groups().items():
        base = measured.get(f"{group}: {names[0]}")
        for name in names[1:] if base else ():
            label = f"{group.removesuffix(', the same by hand')}: {name}"
            found[label] = measured[f"{group}: {name}"] / base
    return found


def _timed(name: str) -> str:
    group, _, who = name.partition(": ")
    return f"{group}, time: {who}"


def _groups() -> dict[str, list[str]]:
    from contestants import contestants, with_the_same_by_hand

    names = list(contestants())
    return dict(zip(GROUPS, (names, names[:2], list(with_the_same_by_hand())), strict=True))


def _runs(steps: int) -> dict[str, tuple[object, int, int]]:
    """Give everybody of every group, with how many steps an epoch and how many epochs there are."""
    from contestants import contestants, with_the_same_by_hand

    everybody = contestants()
    some = dict(list(everybody.items())[:2])
    short = (SHORT, steps // SHORT)
    kinds = ((everybody, steps, 1), (some, *short), (with_the_same_by_hand(), *short))
    return {
        f"{group}: {name}": (run, *size)
        for group, (who, *size) in zip(GROUPS, kinds, strict=True)
        for name, run in who.items()
    }


def quiet_of(windows: list[float]) -> float:
    return statistics.quantiles(windows, n=10)[0]


def time_steps(rounds: int) -> dict[str, list[float]]:
    """Measure seconds a step, in windows, contestants taking turns."""
    import torch
    from contestants import Batches

    torch.set_num_threads(1)
    everybody = _runs(STEPS)
    windows: dict[str, list[float]] = {name: [] for name in everybody}
    for turn in range(rounds + 1):
        for name, (run, steps, epochs) in everybody.items():
            batches = Batches(steps)
            run(batches, epochs)
            if turn:  # the first is a warm-up
                windows[name] += batches.windows[1:]
    return windows


def count_instructions() -> dict[str, float]:
    """Count instructions a step of every contestant, in one process under callgrind."""
    stretches = counting.count([sys.executable, __file__, "--counted"])
    steps = COUNTED[1] - COUNTED[0]
    return {name: of / steps for name, of in zip(_runs(STEPS), stretches, strict=True)}


def run_counted() -> None:
    """Be the process under callgrind: mark the first and the last step that count."""
    from contestants import Batches

    def at_window(number: int) -> None:
        if number in COUNTED:
            counting.mark()

    gc.disable()
    for run, steps, epochs in _runs(COUNTED[1] + SHORT).values():
        batches = Batches(steps)
        batches.at_window = at_window
        run(batches, epochs)


def report(windows: dict[str, list[float]], instructions: dict[str, float]) -> None:
    quiet = {name: quiet_of(some) for name, some in windows.items()}
    median = {name: statistics.median(some) for name, some in windows.items()}
    print(f"{'tiny model':55} {'quiet us':>9} {'ratio':>6} {'median':>7}", end="")
    print(f" {'instructions':>12} {'ratio':>6}")
    for group, names in _groups().items():
        base = f"{group}: {names[0]}"
        for name in (f"{group}: {one}" for one in names):
            line = f"{name:55} {quiet[name] * 1e6:9.1f} {quiet[name] / quiet[base]:6.3f}"
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
    counted = not arguments.no_instructions and counting.can_count()
    report(time_steps(arguments.rounds), count_instructions() if counted else {})


if __name__ == "__main__":
    main()
