"""What hookloop costs before the first step: importing it, listing plugins, entering `fit`.

    python benchmarks/startup.py            time, and instructions where valgrind is installed

Each is a process of its own, compared with another that does the least: importing pluggy alone;
asking Python's own library for the entry points; importing torch and the plugins. Processes take
turns. Modules are loaded from their compiled files, as in any second start. Between 600 installed
distributions 100 have a callback.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import counting

OTHERS, PLUGINS = 500, 100
#: Largest ratio to the least; ``fit entry`` in milliseconds.
BOUNDS = {
    "import, time": 1.5,
    "import": 1.5,
    "list, time": 2.0,
    "list": 2.0,
    "fit entry, ms": 20.0,
}
#: Those of `BOUNDS` that callgrind has to count.
COUNTED_BOUNDS = {name for name in BOUNDS if ", " not in name}
SCRIPTS = {
    "pluggy": "import pluggy",
    "import": "import hookloop",
    "scan": "from importlib.metadata import entry_points; entry_points(group='hookloop.callbacks')",
    "list": "from hookloop.cli import main; main(['list'])",
}
PAIRS = {"import": "pluggy", "list": "scan"}
ENTRY = """
import time, torch, torch.utils.data
import hookloop_early_stopping, hookloop_model_checkpoint, hookloop_csv_logger
import hookloop_reduce_lr_on_plateau, hookloop_terminate_on_nan, hookloop_progbar_logger

class Batches:
    def __len__(self):
        return 1
    def __iter__(self):
        print("entry", (time.process_time() - began) * 1000, flush=True)
        yield torch.zeros(4, 4), torch.zeros(4, 1)

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.Adam(model.parameters())
began = time.process_time()
from hookloop import Trainer
trainer = Trainer(model, loss="mse", optimizer=optimizer)
trainer.fit(Batches(), verbose=0, callbacks=[
    "early_stopping:monitor=loss", "model_checkpoint:filepath=m.pt", "csv_logger:filename=log.csv",
    "reduce_lr_on_plateau:monitor=loss", "terminate_on_nan", "progbar_logger",
])
"""


def measure(*, quick: bool = False) -> dict[str, float]:
    """Give ratios, and for the entry into `fit` milliseconds, by the names of `BOUNDS`."""
    with installed() as environment:
        times = _times(3 if quick else 20, environment)
        counts = _counts(environment) if counting.can_count() else {}
    entry = [_entry() for _ in range(3 if quick else 15)]
    found = {f"{name}, time": _quiet(times[name]) / _quiet(times[of]) for name, of in PAIRS.items()}
    found |= {name: counts[name] / counts[of] for name, of in PAIRS.items() if counts}
    return {**found, "fit entry, ms": _quiet(entry)}


@contextmanager
def installed(others: int = OTHERS, plugins: int = PLUGINS) -> Iterator[dict[str, str]]:
    """Make distributions that are installed as far as their metadata go.

    Yields:
        The environment in which they are found.
    """
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        for number in range(others):
            _install(site, f"other-{number}", "[console_scripts]\nrun = package:main\n")
        for number in range(plugins):
            point = f"callback_{number} = package_{number}:Callback"
            _install(site, f"hookloop-plugin-{number}", f"[hookloop.callbacks]\n{point}\n")
        yield _environment(folder) | {"PYTHONPATH": str(site)}


def _install(site: Path, name: str, points: str) -> None:
    folder = site / f"{name.replace('-', '_')}-1.2.3.dist-info"
    folder.mkdir(parents=True)
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\nSummary: One of many.\n"
    needs = "".join(f"Requires-Dist: package-{number}>=1.0\n" for number in range(10))
    text = "A sentence of a description that is as long as they are.\n" * 60
    (folder / "METADATA").write_text(f"{about}{needs}\n{text}")
    (folder / "entry_points.txt").write_text(points)
    (folder / "RECORD").write_text("")


def _environment(cache: str) -> dict[str, str]:
    """Give the environment of the process, but for what keeps Python from using compiled files."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": f"{cache}/compiled"}


def _times(rounds: int, environment: dict[str, str]) -> dict[str, list[float]]:
    """Measure seconds of the processor, of whole processes by turns; the first of each is none."""
    times: dict[str, list[float]] = {name: [] for name in SCRIPTS}
    for turn in range(rounds + 1):
        for name, script in SCRIPTS.items():
            before = os.times()
            subprocess.run(
                [sys.executable, "-c", script], check=True, env=environment, capture_output=True
            )
            after = os.times()
            if turn:
                spent = after.children_user + after.children_system
                times[name].append(spent - before.children_user - before.children_system)
    return times


def _counts(environment: dict[str, str]) -> dict[str, int]:
    os.environ.update(environment)
    return {
        name: counting.count_all([sys.executable, "-c", text]) for name, text in SCRIPTS.items()
    }


def _entry() -> float:
    """Give milliseconds of the processor from `Trainer(...)` to the first batch."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(tempfile.gettempdir()) / "hookloop-bench-compiled"
        ran = subprocess.run(
            [sys.executable, "-c", ENTRY], check=True, env=_environment(str(cache)), cwd=folder,
            capture_output=True, text=True,
        )  # fmt: skip
    return next(float(line[6:]) for line in ran.stdout.splitlines() if line[:6] == "entry ")


def _quiet(times: list[float]) -> float:
    return statistics.quantiles(times, n=10, method="inclusive")[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    for name, figure in measure(quick=parser.parse_args().quick).items():
        print(f"{name:16} {figure:6.2f}  (at most {BOUNDS[name]:g})")


if __name__ == "__main__":
    main()
