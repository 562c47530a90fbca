"""What calling callbacks costs: begin and end of a batch, beside direct calls of the methods.

    python benchmarks/dispatch.py

Compiled dispatch, for callbacks that do nothing, is measured against as many calls of bound methods
that stand one after the other in a function: what nobody can do without. Nanoseconds of the
processor, the least of many rounds by turns. With one or two callbacks the call of the compiled
function itself counts for much, so these have no bound. Where nobody implements a hook there is
nothing but a comparison with None, which is compared with the step of the tiny model.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

#: Largest ratio to direct calls; of the hooks that nobody implements, share of a step.
BOUNDS = {
    "5 callbacks": 1.5,
    "10 callbacks": 1.5,
    "50 callbacks": 1.5,
    "100 callbacks": 1.5,
    "nobody, share of a step": 0.001,
}
NUMBERS = (1, 2, 5, 10, 50, 100)
CALLS = 2000


def measure(*, quick: bool = False) -> dict[str, float]:
    """Give ratios by the names of `BOUNDS` and more."""
    rounds = 5 if quick else 40
    found = {}
    for number in NUMBERS:
        compiled, direct = _least([_compiled(number), _direct(number)], rounds)
        found[f"{number} callback{'s' * (number > 1)}"] = compiled / direct
    nobody, nothing = _least([_compiled(0), _direct(0)], rounds)
    return {**found, "nobody, share of a step": max(nobody - nothing, 0.0) / _step()}


def _callbacks(number: int) -> list[Any]:
    from contestants import Nothing

    return [Nothing() for _ in range(number)]


def _compiled(number: int) -> Callable[[], None]:
    """Call both hooks as the step of `fit` does."""
    from hookloop.registry import Registry

    named = [(f"nothing_{index}", one) for index, one in enumerate(_callbacks(number))]
    registry = Registry(named)
    begin = registry.dispatch("on_train_batch_begin")
    end = registry.dispatch("on_train_batch_end")
    loop, logs = object(), {"size": 32}

    def run() -> None:
        for index in range(CALLS):
            if begin is not None:
                begin(loop, index, logs)
            if end is not None:
                end(loop, index, logs)

    return run


def _direct(number: int) -> Callable[[], None]:
    """Call the methods of as many callbacks, written out one by one."""
    callbacks = _callbacks(number)
    ends = ("on_train_batch_begin", "on_train_batch_end")
    scope: dict[str, Any] = {
        f"{end}_{index}": getattr(one, end) for index, one in enumerate(callbacks) for end in ends
    }
    calls = "".join(f"        {name}(index, logs)\n" for name in scope)
    arguments = ", ".join(f"{name}={name}" for name in scope)
    scope |= {"CALLS": CALLS, "logs": {"size": 32}}
    text = f"def run({arguments}):\n    for index in range(CALLS):\n{calls or '        pass'}"
    exec(text, scope)
    run: Callable[[], None] = scope["run"]
    return run


def _least(runs: list[Callable[[], None]], rounds: int) -> list[float]:
    """Give the seconds of the processor that each takes a call, at least, by turns."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, own in zip(runs, times, strict=True):
            began = time.process_time()
            run()
            own.append((time.process_time() - began) / CALLS)
    return [min(own) for own in times]


def _step() -> float:
    """Give the seconds of the processor that a step of the tiny model takes by hand."""
    from contestants import Batches, bare

    bare(Batches(50))
    began = time.process_time()
    bare(Batches(500))
    return (time.process_time() - began) / 500


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    for name, ratio in measure(quick=parser.parse_args().quick).items():
        bound = f"(at most {BOUNDS[name]:g})" if name in BOUNDS else ""
        print(f"{name:24} {ratio:8.4f}  {bound}")


if __name__ == "__main__":
    main()
