"""For how long training stands still while a state of 500 MB is saved, in ratio to one copy of it.

    python benchmarks/saving.py
    python benchmarks/saving.py --megabytes 100 --rounds 10 --heavy --json saving.json

The state is a model of Linear(2048, 2048) with Adam's moments. What stands still is the hook, and
by how much the steps behind it are slower until the writer is done. Those are steps of a tiny part
of the model, which show what the writer does to the interpreter; with ``--heavy`` they are steps
of all of it, which share the memory's bandwidth with the writer as well. Contestants take turns.
What decides is the ratio to a ``copy_`` of the same tensors into warm buffers, medians of one run.
Time in which the scheduler ran something else instead does not count, where the system
tells it (Linux).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import nn

from hookloop import CallbackList, files, load

LIMIT, MEMORY_LIMIT = 1.5, 1.1
BOUND = ("model_checkpoint, .pt", "model_checkpoint, .safetensors", "backup_and_restore")
WIDTH = 2048
#: Where the model is; ``benchmarks/bench.py --device cuda`` says it so.
DEVICE = os.environ.get("HOOKLOOP_BENCH_DEVICE", "cpu")


def now() -> float:
    """Seconds, less those in which this thread could have run, and something else did."""
    if DEVICE.startswith("cuda"):
        torch.cuda.synchronize()
    try:
        waited = int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    except OSError:
        waited = 0
    return time.perf_counter() - waited * 1e-9


class Training:
    """A big model whose steps train a tiny part of it, or all.

    Args:
        megabytes: Size of the model with Adam's moments.
        heavy: Whether steps train all of it.
    """

    def __init__(self, megabytes: int, *, heavy: bool) -> None:
        torch.manual_seed(0)
        layers = max(1, round(megabytes * 1e6 / (12 * WIDTH * (WIDTH + 1))))
        self.big = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(layers)))
        self.tiny = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
        self.model = nn.ModuleDict({"big": self.big, "tiny": self.tiny}).to(DEVICE)
        self.optimizer = torch.optim.Adam(self.model.parameters())
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()  # makes the moments
        self.optimizer.zero_grad()
        self.big.requires_grad_(heavy)
        self._part = self.big if heavy else self.tiny
        self._batch = torch.randn(32, WIDTH if heavy else 16, device=DEVICE)

    def step(self) -> None:
        self.optimizer.zero_grad()
        self._part(self._batch).square().mean().backward()
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def tensors(self) -> list[torch.Tensor]:
        states = self.optimizer.state_dict()["state"].values()
        moments = [value for state in states for value in state.values()]
        return [*self.model.state_dict().values(), *moments]


class Copying:
    """What is measured against: the tensors of the state into memory that is there already."""

    def __init__(self, training: Training) -> None:
        self._from = training.tensors()
        self._to = [
            torch.empty_like(one, device="cpu", pin_memory=one.is_cuda) for one in self._from
        ]
        self.save()

    def save(self) -> None:
        for to, one in zip(self._to, self._from, strict=True):
            to.copy_(one)

    def end(self) -> None:
        self._to.clear()


class InPlace:
    """Saving as it is done by hand: training waits for it."""

    def __init__(self, training: Training, path: Path, *, sync: bool) -> None:
        self._training, self._path, self._sync = training, path, sync

    def save(self) -> None:
        with open(self._path, "wb") as file:
            torch.save(self._training.state(), file)
            if self._sync:
                file.flush()
                os.fsync(file.fileno())

    def end(self) -> None:
        self._path.unlink()


class Savers:
    """Callbacks that save at every end of an epoch."""

    def __init__(self, training: Training, *callbacks: Any) -> None:
        self._list = CallbackList(
            list(callbacks), model=training.model, optimizer=training.optimizer
        )
        self._list.on_train_begin()
        self._epoch = 0

    def save(self) -> None:
        self._list.on_epoch_end(self._epoch)
        self._epoch += 1

    def end(self) -> None:
        self._list.on_train_end()


def contestants(training: Training, folder: Path) -> dict[str, Callable[[], Any]]:
    """Everybody who is compared, by name; the first is what the others are measured against."""

    def checkpoint(name: str, **more: Any) -> Any:
        return load("model_checkpoint", filepath=folder / name, **more)

    def backup(**more: Any) -> Any:
        return load("backup_and_restore", backup_dir=folder / "backup", **more)

    return {
        "copy_ into warm buffers": lambda: Copying(training),
        "torch.save": lambda: InPlace(training, folder / "by-hand.pt", sync=False),
        "torch.save and fsync": lambda: InPlace(training, folder / "by-hand.pt", sync=True),
        "model_checkpoint, .pt": lambda: Savers(training, checkpoint("m.pt")),
        "model_checkpoint, .safetensors": lambda: Savers(training, checkpoint("m.safetensors")),
        "backup_and_restore": lambda: Savers(training, backup()),
        "both": lambda: Savers(training, checkpoint("m.pt"), backup()),
        "model_checkpoint, in place": lambda: Savers(
            training, checkpoint("m.pt", async_save=False)
        ),
        "backup_and_restore, in place": lambda: Savers(training, backup(async_save=False)),
    }


def measure(training: Training, saver: Any, steps: int) -> tuple[float, float]:
    """Save once, and go on training until all is written; as many steps as before and behind.

    Returns:
        Seconds for which training stood still, and those until all was written.
    """
    usual = time_steps(training, steps)
    begun, wall = now(), time.perf_counter()
    saver.save()
    stall = now() - begun
    written, count, begun = files.background(lambda: None), 0, now()
    while not written.done():
        training.step()
        count += 1
    during, wall = now() - begun, time.perf_counter() - wall
    usual = (usual + time_steps(training, steps)) / 2
    return stall + (during - count * usual if count else 0), wall


def time_steps(training: Training, steps: int) -> float:
    """Seconds a step, with nothing in the background but somebody who looks for it."""
    nothing = files.background(lambda: None)
    nothing.result()
    begun = now()
    for _ in range(steps):
        nothing.done()
        training.step()
    return (now() - begun) / steps


def memory(field: str) -> float:
    """Megabytes of this process: ``VmRSS`` now, ``VmHWM`` at most so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def peak(training: Training, saver: Callable[[], Any]) -> float:
    """Save three times, in a process of one's own; give the peak of memory beyond what was used."""
    with contextlib.suppress(OSError):  # where there is no such file, what came before counts too
        Path("/proc/self/clear_refs").write_text("5")
    before, made = memory("VmRSS"), saver()
    for _ in range(3):
        made.save()
    made.end()
    return memory("VmHWM") - before


def compare(
    training: Training, folder: Path, rounds: int, steps: int, options: list[str]
) -> dict[str, dict[str, Any]]:
    """Let everybody save in turn; the first save of each, into fresh memory, stands by itself."""
    everybody = contestants(training, folder)
    found: dict[str, dict[str, Any]] = {}
    for name in everybody:
        command = [sys.executable, __file__, "--peak-of", name, *options]
        extra = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[name] = {"first": [], "stall": [], "written": [], "memory": float(extra)}
    for _ in range(rounds):
        for name, make in everybody.items():
            saver = make()
            for again in (False, True, True):
                stall, written = measure(training, saver, steps)
                found[name]["stall" if again else "first"].append(stall)
                found[name]["written"].append(written)
            saver.end()
    return found


def report(found: dict[str, dict[str, Any]], size: float) -> bool:
    """Print the table, and tell whether the bounds hold."""
    typical = {name: statistics.median(row["stall"]) for name, row in found.items()}
    base, hand = typical["copy_ into warm buffers"], typical["torch.save"]
    print(f"{size:.0f} MB; one copy into warm buffers takes {base * 1e3:.1f} ms")
    print(f"{'':30} {'stall ms':>9} {'x copy_':>8} {'least':>7} {'x torch.save':>12}", end="")
    print(f" {'first':>7} {'written s':>10} {'memory':>7}")
    holds = True
    for name, row in found.items():
        ratio, copies = typical[name] / base, row["memory"] / size
        row |= {"ratio": ratio, "ratio to torch.save": typical[name] / hand, "copies": copies}
        line = f"{name:30} {typical[name] * 1e3:9.1f} {ratio:8.2f} {min(row['stall']) / base:7.2f}"
        line += f" {typical[name] / hand:12.2f} {statistics.median(row['first']) / base:7.2f}"
        print(f"{line} {statistics.median(row['written']):10.2f} {copies:7.2f}")
        if name in BOUND:
            holds &= copies <= MEMORY_LIMIT and ratio <= LIMIT
    print("medians; memory: the peak beyond what was used before, in sizes of the state")
    print(
        f"at most {LIMIT} copies of time, {MEMORY_LIMIT} of memory: {'kept' if holds else 'BROKEN'}"
    )
    return holds


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--heavy", action="store_true", help="steps that train all of the model")
    parser.add_argument("--folder", help="where to save; a temporary folder unless given")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    training = Training(asked.megabytes, heavy=asked.heavy)
    size = sum(one.nbytes for one in training.tensors()) / 1e6
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        if asked.peak_of:
            print(peak(training, contestants(training, Path(folder))[asked.peak_of]))
            return 0
        options = ["--megabytes", str(asked.megabytes), "--folder", folder]
        steps = 3 if asked.heavy else 500
        found = compare(training, Path(folder), asked.rounds, steps, options)
    holds = report(found, size)
    if asked.json:
        asked.json.write_text(json.dumps({"megabytes": size, "rows": found}, indent=1))
    return int(not holds)


if __name__ == "__main__":
    sys.exit(main())
