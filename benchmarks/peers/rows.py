"""The rows that are timed: everybody takes turns, and is compared with the loop by hand."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

from figures import Ratio, quiet, ratios
from harness import say, take_turns
from trainers import able, windows


@dataclass(frozen=True)
class Row:
    """One row: what is trained, and how long.

    Attributes:
        name: What stands in front of it.
        model, callbacks, steps, epochs, window: As in `jobs.Job`.
        rounds: How often everybody does it.
    """

    name: str
    model: str
    callbacks: str
    steps: int
    epochs: int
    window: int
    rounds: int


STEPS = (
    Row("step, tiny, no callbacks", "tiny", "off", 500, 1, 50, 8),
    Row("step, tiny, 5 callbacks that do nothing", "tiny", "nothing", 500, 1, 50, 8),
    Row("step, tiny, realistic", "tiny", "realistic", 500, 1, 50, 8),
    Row("epochs of 5 steps, tiny, no callbacks", "tiny", "off", 5, 60, 25, 6),
    Row("epochs of 5 steps, tiny, realistic", "tiny", "realistic", 5, 60, 25, 6),
    Row("step, mid, no callbacks", "mid", "off", 80, 1, 10, 6),
    Row("step, mid, realistic", "mid", "realistic", 80, 1, 10, 6),
)
STALL = Row("training stands still for a save of 100 MB", "large", "saving", 1000, 5, 1000, 3)


def short(row: Row) -> Row:
    """Make of a row what a quick run does."""
    return replace(row, steps=min(row.steps, 120), epochs=min(row.epochs, 15), rounds=1)


def timed(row: Row, device: str, callbacks: str | None = None) -> dict[str, list[float]]:
    """Let everybody do a row, by turns; those of the loop by hand are there in any case."""
    chosen = callbacks or row.callbacks
    names = able(chosen)
    does = dict.fromkeys(names, chosen) if "by hand" in names else {"by hand": "off"}
    does |= dict.fromkeys(names, chosen)

    def one(name: str) -> list[float]:
        return windows(
            name,
            callbacks=does[name],
            model=row.model,
            steps=row.steps,
            epochs=row.epochs,
            window=row.window,
            device=device,
        )

    everybody = {name: lambda name=name: one(name) for name in does}
    return take_turns(everybody, row.rounds, warm_up=row.model != "large")


def compared(rows: tuple[Row, ...], device: str) -> dict[str, dict[str, Ratio]]:
    """Time the rows and compare everybody with the loop by hand."""
    found = {}
    for row in rows:
        say(row.name)
        found[row.name] = ratios(timed(row, device), "by hand")
    return found


def stalls(row: Row, device: str) -> dict[str, Ratio]:
    """Time what a save adds to an epoch, with the slowed steps behind it, beside ``torch.save``.

    The loop by hand uses ``torch.save``, so its own is 1.
    """
    say(row.name)
    without, saving = timed(row, device, "off"), timed(row, device)
    low = {name: quiet(saving[name]) - quiet(without[name]) for name in saving}
    middle = {
        name: statistics.median(saving[name]) - statistics.median(without[name]) for name in saving
    }
    # On a busy machine a difference may come out below nothing.
    return {
        name: Ratio(*(max(some[name] / some["by hand"], 0.0) for some in (low, middle)))
        for name in saving
    }
