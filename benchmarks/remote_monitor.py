"""Training beside a server that is dead: with remote_monitor, and without, in one run.

    python benchmarks/remote_monitor.py
    python benchmarks/remote_monitor.py --rounds 5 --epochs 10

The contestants take turns, so that what the machine does meanwhile meets all of them. What decides
is the ratio of the quickest run with the callback to the quickest without it, which other work on
the machine disturbs least; it is to be less than 1.05. The ratio of the time of the CPU, all
threads together, stands beside it. The end of training waits for nothing: ``flush_timeout=0``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import socket
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")

LIMIT = 1.05


@contextlib.contextmanager
def addresses() -> Iterator[dict[str, str]]:
    """Give servers that are of no use: one refuses connections, one takes them and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        refusing = gone.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield {
            "refusing": f"http://127.0.0.1:{refusing}",
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }


def seconds(callbacks: list[object], epochs: int) -> tuple[float, float]:
    """Train a small network; give the time that passed, and that of the CPU."""
    import torch

    from hookloop import Trainer

    torch.manual_seed(0)
    x = torch.randn(8192, 64)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1))
    trainer = Trainer(model, loss="mse", optimizer="sgd:lr=0.01", seed=0)
    begun = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):  # that events are left in the spool
        trainer.fit((x, x[:, :1]), epochs=epochs, batch_size=32, callbacks=callbacks, verbose=0)
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def measure(rounds: int, epochs: int) -> dict[str, list[tuple[float, float]]]:
    """Let everybody train in turn; the first round is a warm-up."""
    from hookloop_remote_monitor import RemoteMonitor

    taken: dict[str, list[tuple[float, float]]] = {}
    with addresses() as servers, tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds + 1):
            runs: dict[str, list[object]] = {"without": []}
            for name, root in servers.items():
                runs[f"{name}, memory"] = [RemoteMonitor(root, flush_timeout=0.0)]
                spool = f"{folder}/{name}-{turn}"
                runs[f"{name}, spool"] = [RemoteMonitor(root, spool=spool, flush_timeout=0.0)]
            names = list(runs)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                found = seconds(runs[name], epochs)
                if turn:
                    taken.setdefault(name, []).append(found)
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=20)
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore", RuntimeWarning)  # that the server is dead
    taken = measure(asked.rounds, asked.epochs)
    base = taken.pop("without")
    quickest = min(wall for wall, _ in base)
    cpu = statistics.median(time for _, time in base)
    print(f"without: {quickest:.3f} s (quickest of {asked.rounds} runs)")
    worst = 0.0
    for name, runs in taken.items():
        ratio = min(wall for wall, _ in runs) / quickest
        worst = max(worst, ratio)
        cpu_ratio = statistics.median(time for _, time in runs) / cpu
        print(f"{name}: ratio {ratio:.3f}, of the time of the CPU {cpu_ratio:.3f}")
    print(f"largest ratio {worst:.3f}; limit {LIMIT}: {'kept' if worst < LIMIT else 'BROKEN'}")
    return int(worst >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
