"""For how long training stands still while a state of 500 MB is saved, in ratio to one copy of it.

    python benchmarks/saving.py
    python benchmarks/saving.py --megabytes 100 --rounds 10 --heavy --json saving.json

The state is a model of Linear(2048, 2048) with Adam's moments. Training stands still in the hook;
behind it, steps wait for the interpreter's lock, which the writer holds now and then; and they are
slower, as the writer uses the same caches and the same memory. How much the last is for any writer
shows a process of its own that adds up and writes as many bytes behind a plain copy. Steps are of a
tiny part of the model, which need the interpreter most; with ``--heavy`` of all of it. Contestants
take turns. What decides is hook and lock, and what the steps are slower than beside that process,
in ratio to a ``copy_`` of the same tensors into warm buffers; medians of one run. Time in which the
scheduler ran something else instead does not count, where the system tells it (Linux).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
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
COPY, ELSEWHERE = "copy_ into warm buffers", "copy_, another process writes"
PARTS = ("hook", "lock", "slower", "written")
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

    def written(self) -> Any:
        return files.background(lambda: None)

    def end(self) -> None:
        self._to.clear()


class Elsewhere(Copying):
    """A copy, and another process that adds up and writes as much: what no writer can avoid."""

    def __init__(self, training: Training, path: Path) -> None:
        super().__init__(training)
        self._ours, theirs = multiprocessing.Pipe()
        fork = multiprocessing.get_context("fork")
        self._process = fork.Process(target=self._write, args=(theirs, path), daemon=True)
        self._process.start()

    def _write(self, asked: Any, path: Path) -> None:
        while asked.recv():
            total = hashlib.sha256()
            with open(path, "wb") as file:
                for tensor in self._to:
                    data = tensor.reshape(-1).view(torch.uint8).numpy().data
                    total.update(data)
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
            asked.send(total.hexdigest())

    def written(self) -> Any:
        self._ours.send(True)
        return self

    def done(self) -> bool:
        return self._ours.poll() and bool(self._ours.recv())

    def end(self) -> None:
        super().end()
        self._ours.send(False)
        self._process.join()


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

    def written(self) -> Any:
        return files.background(lambda: None)

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

    def written(self) -> Any:
        return files.background(lambda: None)

    def end(self) -> None:
        self._list.on_train_end()


def contestants(training: Training, folder: Path) -> dict[str, Callable[[], Any]]:
    """Everybody who is compared, by name; the first is what the others are measured against."""

    def checkpoint(name: str, **more: Any) -> Any:
        return load("model_checkpoint", filepath=folder / name, **more)

    def backup(**more: Any) -> Any:
        return load("backup_and_restore", backup_dir=folder / "backup", **more)

    return {
        COPY: lambda: Copying(training),
        ELSEWHERE: lambda: Elsewhere(training, folder / "elsewhere"),
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


def measure(training: Training, saver: Any, steps: int) -> dict[str, float]:
    """Save once, and go on training until all is written; as many steps as before and behind.

    Returns:
        Seconds: in the hook, waiting for the interpreter's lock behind it, by which steps were
        slower besides, and until all was written.
    """
    usual = time_steps(training, steps)
    begun, wall = now(), time.perf_counter()
    saver.save()
    hook = now() - begun
    written, count, begun, used = saver.written(), 0, now(), time.thread_time()
    while not written.done():
        training.step()
        count += 1
    during, used = now() - begun, time.thread_time() - used
    wall = time.perf_counter() - wall
    usual = (usual + time_steps(training, steps)) / 2
    lock, slower = (during - used, used - count * usual) if count else (0.0, 0.0)
    return {"hook": hook, "lock": lock, "slower": slower, "written": wall}


def time_steps(training: Training, steps: int) -> float:
    """Seconds a step, with nothing in the background but somebody who looks for it."""
    nothing = files.background(lambda: None)
    nothing.result()
    begun = time.thread_time()
    for _ in range(steps):
        nothing.done()
        training.step()
    return (time.thread_time() - begun) / steps


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
        found[name] = {"first": [], "later": [], "memory": float(extra)}
    for _ in range(rounds):
        for name, make in everybody.items():
            saver = make()
            for again in (False, True, True):
                found[name]["later" if again else "first"].append(measure(training, saver, steps))
            saver.end()
    return found


def report(found: dict[str, dict[str, Any]], size: float) -> bool:
    """Print the table, and tell whether the bounds hold."""
    typical = {
        name: {part: statistics.median(one[part] for one in row["later"]) for part in PARTS}
        for name, row in found.items()
    }
    base, by_hand = typical[COPY]["hook"], typical["torch.save"]["hook"]
    unavoidable = max(typical[ELSEWHERE]["slower"], 0.0)
    print(f"{size:.0f} MB; one copy into warm buffers takes {base * 1e3:.1f} ms. In copies of it:")
    print(
        f"{'':31} {'hook':>6} {'lock':>6} {'slower':>7} {'decides':>8} {'x torch.save':>12}", end=""
    )
    print(f" {'first':>6} {'written s':>10} {'memory':>7}")
    holds = True
    for name, row in found.items():
        parts = typical[name]
        stall = parts["hook"] + parts["lock"] + max(parts["slower"] - unavoidable, 0.0)
        row |= {"ratio": stall / base, "ratio to torch.save": stall / by_hand}
        row["slowed"] = (parts["hook"] + parts["lock"] + max(parts["slower"], 0.0)) / base
        row |= {"copies": row["memory"] / size, "parts": parts}
        first = statistics.median(one["hook"] for one in row["first"])
        line = f"{name:31} {parts['hook'] / base:6.2f} {parts['lock'] / base:6.2f}"
        line += f" {parts['slower'] / base:7.2f} {stall / base:8.2f} {stall / by_hand:12.2f}"
        print(f"{line} {first / base:6.2f} {parts['written']:10.2f} {row['copies']:7.2f}")
        if name in BOUND:
            holds &= row["copies"] <= MEMORY_LIMIT and row["ratio"] <= LIMIT
    print("memory: the peak beyond what was used before, in sizes of the state")
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
