"""How costs grow: with callbacks, epochs, rows, installed distributions, steps.

    make bench-growth
    .venv/bin/python benchmarks/growth.py --quick

Each series is a list of sizes and what it cost at each; its order is the slope through the
logarithms: 0 for a cost that stays, 1 for one that doubles with the size. What matters is the
order: the costs themselves are those of one machine.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from figures import order, quiet  # noqa: E402
from harness import options, result, save, say, table  # noqa: E402

#: Entries of the installed distributions that are made up, one in five of which is a callback.
ENTRY = "[hookloop.callbacks]\nmade_up_{0} = made_up_{0}:Callback\n"
#: The order that something may have which is not to grow, as far as times can tell.
FLAT = 0.1
METADATA = "Metadata-Version: 2.1\nName: made-up-{0}\nVersion: 1.0\n"


@dataclass
class Series:
    """What something costs at several sizes.

    Attributes:
        name: What grows.
        unit: Of the costs.
        sizes: Against what.
        costs: One a size.
        limit: What the order may be at most.
    """

    name: str
    unit: str
    sizes: list[float]
    costs: list[float]
    limit: float

    @property
    def order(self) -> float:
        return order(self.sizes, self.costs)

    def data(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "sizes": self.sizes,
            "costs": self.costs,
            "order": self.order,
            "limit": self.limit,
        }


# -- callbacks -----------------------------------------------------------------------------------


def dispatch(quick: bool) -> Series:
    """Time begin and end of a batch with so many callbacks that do nothing."""
    sizes = [1, 2, 5, 10, 20, 50, 100]
    calls = {size: _begin_and_end(size) for size in sizes}
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(5 if quick else 30):
        for size, call in calls.items():
            began = time.process_time()
            for _ in range(300):
                call()
            times[size].append((time.process_time() - began) / 300)
    costs = [quiet(times[size]) * 1e9 for size in sizes]
    return Series("calling callbacks: begin and end of a batch", "ns", sizes, costs, 1.1)


def _begin_and_end(size: int) -> Callable[[], None]:
    from contestants import Nothing

    from hookloop.logs import Logs
    from hookloop.registry import Registry

    registry = Registry([(f"nothing{index}", Nothing()) for index in range(size)])
    loop, logs = None, Logs()
    begin = registry.dispatch("on_train_batch_begin")
    end = registry.dispatch("on_train_batch_end")
    assert begin is not None
    assert end is not None

    def call() -> None:
        begin(loop, 0, logs)
        end(loop, 0, logs)

    return call


def steps(quick: bool) -> Series:
    """Time a step of the tiny model with so many callbacks that do nothing."""
    from contestants import Batches, Nothing, fit

    sizes = [0, 1, 2, 5, 10, 20, 50, 100]
    windows: dict[int, list[float]] = {size: [] for size in sizes}
    for turn in range(2 if quick else 8):
        for size in sizes:
            batches = Batches(200 if quick else 400, window=25)
            fit(batches, [Nothing() for _ in range(size)])
            if turn:
                windows[size] += batches.windows[1:]
    costs = [quiet(windows[size]) * 1e6 for size in sizes]
    # The first is at 0, which has no logarithm: as a size it counts as one.
    return Series("a step, tiny model", "us", [max(size, 1) for size in sizes], costs, 0.2)


# -- epochs and rows -----------------------------------------------------------------------------


class Epochs:
    """One batch an epoch, which notes the time at every so many epochs."""

    def __init__(self, at: list[int]) -> None:
        import torch

        self._batch = (torch.ones(1, 1), torch.ones(1, 1))
        self._window = max(at[0] // 2, 1)
        self._at = set(at) | {size - self._window for size in at}
        self._epoch, self.noted = 0, dict[int, float]()

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        if self._epoch in self._at:
            self.noted[self._epoch] = time.process_time()
        self._epoch += 1
        yield self._batch

    def costs(self, sizes: list[int]) -> list[float]:
        """Give the microseconds an epoch, in the window that ends at each size."""
        window = self._window
        return [(self.noted[n] - self.noted[n - window]) / window * 1e6 for n in sizes]


def epochs(name: str, callbacks: Callable[[Path], list[Any]], last: int) -> Series:
    """Train so many epochs of one batch each, and time them while the run becomes longer."""
    import torch

    from hookloop import Trainer

    sizes = [size for size in SIZES if size <= last]
    model = torch.nn.Linear(1, 1)
    trainer = Trainer(model, loss="mse", optimizer="sgd:lr=0.001", device="cpu", seed=0)
    data = Epochs(sizes)
    with tempfile.TemporaryDirectory(prefix="hookloop-bench-") as folder:
        trainer.fit(data, epochs=last + 1, callbacks=callbacks(Path(folder)), verbose=0)
    return Series(name, "us", [*map(float, sizes)], data.costs(sizes), FLAT)


#: Epochs at which the cost is taken; each is that of the 500 epochs before it.
SIZES = [1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000]


def history(quick: bool) -> Series:
    return epochs("an epoch, as the history grows", lambda _: [], 10_000 if quick else 100_000)


def csv_rows(quick: bool) -> Series:
    import hookloop

    def made(folder: Path) -> list[Any]:
        return [hookloop.load("csv_logger", filename=str(folder / "log.csv"))]

    return epochs("an epoch with csv_logger, as its file grows", made, 10_000 if quick else 100_000)


def tensorboard_rows(quick: bool) -> Series:
    import hookloop

    def made(folder: Path) -> list[Any]:
        return [hookloop.load("tensorboard", log_dir=str(folder), write_graph=False)]

    return epochs("an epoch with tensorboard, as its file grows", made, 5_000 if quick else 50_000)


def saved_state(quick: bool) -> Series:
    """Time an epoch that ends with a checkpoint, which has the whole history in it."""
    sizes = [1000, 10_000, 100_000]
    costs = [_saving_epoch(size, 5 if quick else 20) for size in sizes]
    name = "an epoch with model_checkpoint, as the history in it grows"
    return Series(name, "us", [*map(float, sizes)], costs, 1.1)


def _saving_epoch(size: int, epochs: int) -> float:
    """Train some epochs of one batch that end with a checkpoint, after so many of the past."""
    import torch

    import hookloop
    from hookloop.history import History

    class Past(History):
        def on_train_begin(self) -> None:
            super().on_train_begin()
            self.load_rows({"epoch": range(size), "values": {"loss": (range(size), [0.5] * size)}})

    data = Epochs([*range(2, epochs)])
    trainer = hookloop.Trainer(
        torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.001", device="cpu", seed=0
    )
    with tempfile.TemporaryDirectory(prefix="hookloop-bench-") as folder:
        saver = hookloop.load("model_checkpoint", filepath=f"{folder}/model.pt")
        trainer.fit(data, epochs=epochs, callbacks=[saver, Past()], verbose=0)
    return quiet(data.costs([*range(2, epochs)]))


# -- installed distributions ---------------------------------------------------------------------


def discovery(quick: bool) -> Series:
    """Time the scan of what is installed, with so many distributions, a fifth of them callbacks."""
    from hookloop.discovery import GROUP, scan

    sizes = [50, 100, 200, 500, 1000, 2000]
    costs = []
    path = list(sys.path)
    with tempfile.TemporaryDirectory(prefix="hookloop-bench-") as folder:
        for size in sizes:
            where = Path(folder) / str(size)
            made_up(where, size)
            times = []
            for _ in range(3 if quick else 15):
                sys.path[:] = [str(where)]
                try:
                    began = time.process_time()
                    found = scan.__wrapped__()[GROUP]
                    times.append(time.process_time() - began)
                finally:
                    sys.path[:] = path
            assert len(found) == size // 5
            costs.append(quiet(times) * 1e3)
    return Series("the scan for callbacks", "ms", [*map(float, sizes)], costs, 1.1)


def made_up(folder: Path, count: int) -> None:
    """Make metadata of so many distributions, of which one in five has a callback."""
    for index in range(count):
        info = folder / f"made_up_{index}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(METADATA.format(index))
        text = ENTRY.format(index) if not index % 5 else "[console_scripts]\nmade = up:main\n"
        (info / "entry_points.txt").write_text(text)


# -- memory --------------------------------------------------------------------------------------


def memory(quick: bool) -> Series:
    """Note the memory of the process over many steps with an ordinary set of callbacks."""
    from contestants import Batches, fit, realistic

    last = 10_000 if quick else 100_000
    noted: dict[int, float] = {}
    batches = Batches(last + 1, window=last // 10)

    def note(number: int) -> None:
        if number:
            gc.collect()
            noted[number] = resident()

    batches.at_window = note
    with tempfile.TemporaryDirectory(prefix="hookloop-bench-") as folder:
        fit(batches, realistic(Path(folder)))
    sizes = [float(size) for size in noted]
    return Series("memory of the process, by steps", "MB", sizes, [*noted.values()], 0.01)


def resident() -> float:
    """Give the memory that the process has now, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1000
    raise RuntimeError("this system does not say how much memory a process has")


ALL: dict[str, Callable[[bool], Series]] = {
    "dispatch": dispatch,
    "steps": steps,
    "discovery": discovery,
    "saved state": saved_state,
    "memory": memory,
    "history": history,
    "csv": csv_rows,
    "tensorboard": tensorboard_rows,
}


#: Of those that `measure` looks at, which take seconds.
SHORT = ("dispatch", "discovery", "memory", "history", "csv")
BOUNDS = {
    "order of: calling callbacks: begin and end of a batch": 1.1,
    "order of: the scan for callbacks": 1.1,
    "order of: memory of the process, by steps": 0.01,
    "order of: an epoch, as the history grows": FLAT,
    "order of: an epoch with csv_logger, as its file grows": FLAT,
}


def series(quick: bool = False, names: Sequence[str] = tuple(ALL)) -> list[Series]:
    """Measure those of these names."""
    import torch

    torch.set_num_threads(1)
    found = []
    for name in names:
        say(f"growth: {name}")
        found.append(ALL[name](quick))
    return found


def measure(quick: bool = False) -> dict[str, float]:
    """Give the order of each short series, by the names of `BOUNDS`; always of a short run."""
    return {f"order of: {one.name}": one.order for one in series(quick=True, names=SHORT)}


def main() -> None:
    asked = options(__doc__)
    found = series(asked.quick)
    lines = [
        [one.name, f"{one.order:.3f}", f"{one.limit:.2f}", one.unit]
        + [f"{cost:.4g}" for cost in (one.costs[0], one.costs[-1])]
        for one in found
    ]
    print(table(["series", "order", "limit", "unit", "first", "last"], lines))
    save(result("growth", {one.name: one.data() for one in found}, quick=asked.quick), asked.out)


if __name__ == "__main__":
    main()
