"""How contestants are compared: by turns, in one process; and what is kept of it, as JSON.

A file of results is ``{"what", "date", "machine", "versions", "load", "quick", "figures"}``, where
the figures are one flat mapping of names to numbers, or one of them for each row of a table.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
#: Whose versions a result depends on, where they are installed.
DEPENDS = ("torch", "pluggy", "numpy", "lightning", "transformers", "keras", "pytorch-ignite")
DEPENDS += ("skorch", "accelerate", "tensorboard")
BEGAN = time.perf_counter()


def say(text: str) -> None:
    """Show what is going on, with the seconds since the beginning."""
    print(f"[{time.perf_counter() - BEGAN:5.0f} s] {text}", file=sys.stderr, flush=True)


def now() -> float:
    """Give seconds, less those in which this thread could have run and something else did.

    Linux tells them. Where a thread of one's own held the interpreter's lock they are not among
    them, so what a writer in the background costs the steps beside it is measured.
    """
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            waited = int(file.read().split()[1])
    except OSError:
        waited = 0
    return time.perf_counter() - waited * 1e-9


def take_turns(
    contestants: Mapping[str, Callable[[], Sequence[float]]],
    rounds: int,
    *,
    warm_up: bool = True,
) -> dict[str, list[float]]:
    """Let everybody run once a round, and collect their times.

    Each round begins with another one, so that what the machine does meanwhile, and what one
    leaves behind for the next, meets all of them.

    Args:
        contestants: What gives the times of one run, by name.
        rounds: How many count.
        warm_up: Whether there is one more in front, which does not count.
    """
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-int(warm_up), rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found = contestants[name]()
            if turn >= 0:
                times[name] += found
    return times


def machine() -> dict[str, Any]:
    """Describe the machine, without its name."""
    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def versions() -> dict[str, str]:
    """Tell the versions of all that a result depends on."""
    found = {"python": platform.python_version()}
    for name in DEPENDS:
        try:
            found[name] = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue
    return found


def result(what: str, figures: Any, *, quick: bool, **more: Any) -> dict[str, Any]:
    """Put figures together with where and when they were measured.

    Args:
        what: Which benchmark.
        figures: What was measured.
        quick: Whether it was a short run, whose figures say little.
        **more: What else belongs to it.
    """
    return {
        "what": what,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "load": round(os.getloadavg()[0], 1),
        "quick": quick,
        **more,
        "figures": figures,
    }


def save(found: Mapping[str, Any], folder: Path | None) -> None:
    """Write a result as ``<what>.json``, and say where; nothing without a folder."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{found['what']}.json"
    path.write_text(json.dumps(rounded(found), indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")


def rounded(value: Any) -> Any:
    """Give the same with floats of four digits: more of them would be noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}") if abs(value) < 1000 else round(value)
    if isinstance(value, Mapping):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return value


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table for the terminal: the first column to the left, the others to the right."""
    lines = [list(head), *map(list, rows)]
    wide = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, wide, strict=True))
        )
        for line in lines
    )


def options(about: str, argv: Sequence[str] | None = None, **extra: Any) -> argparse.Namespace:
    """Read the command line that all benchmarks have.

    Args:
        about: The docstring of the benchmark.
        argv: Words; those of the process unless given.
        **extra: More options: the arguments of ``add_argument``, by name.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it runs")
    parser.add_argument("--device", default="cpu", help="where models and data are, such as cuda")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"folder for the JSON, {RESULTS.relative_to(RESULTS.parents[1])} unless it is quick",
    )
    for name, arguments in extra.items():
        parser.add_argument(f"--{name}", **arguments)
    found = parser.parse_args(argv)
    if found.out is None and not found.quick:
        found.out = RESULTS / found.device if found.device != "cpu" else RESULTS
    return found
