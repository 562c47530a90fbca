"""One trainer in a process of its own: how long until it has made a step, and how much memory.

    .venv-bench/bin/python benchmarks/peers/alone.py Lightning

prints the seconds of the import, those until the first step was made, the greatest memory that the
process had, and the same of the GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
#: What is imported by whoever uses somebody, before anything else is.
IMPORTS = {
    "by hand": "import torch",
    "hookloop": "import torch, hookloop; hookloop.Trainer",
    "Ignite": "import torch, ignite.engine, ignite.handlers, ignite.metrics",
    "skorch": "import torch, skorch.callbacks",
    "Accelerate": "import torch; from accelerate import Accelerator",
    "Lightning": "import torch, lightning",
    "transformers": "import torch; from transformers import Trainer, TrainingArguments",
    "Keras": "import torch, keras; keras.Model",
}


def here(name: str, device: str) -> dict[str, float]:
    """Import, train a little, and tell what that took; for a process that has done nothing yet."""
    began = time.perf_counter()
    exec(IMPORTS[name], {})
    imported = time.perf_counter()
    import torch
    from jobs import Job
    from trainers import train_of

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="hookloop-bench-") as folder:
        job = Job("tiny", "off", 200, 1, 50, Path(folder), device)
        train = train_of(name)
        prepared = time.perf_counter()
        train(job)
    first = job.batches.first or prepared
    # Between the import and `prepared` only the benchmark's own modules are imported.
    return {
        "import": imported - began,
        "ready": first - began,
        "memory": _peak(),
        "gpu memory": torch.cuda.max_memory_allocated() if device.startswith("cuda") else 0.0,
    }


def _peak() -> float:
    """Give the greatest memory so far; that of `getrusage` can be the parent's from before exec."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024.0
    raise RuntimeError("this system does not say how much memory a process has had")


def elsewhere(name: str, device: str) -> dict[str, float]:
    """Do the same in a new process, which may use compiled files of everybody's."""
    command = [sys.executable, str(Path(__file__).resolve()), name, device]
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=kept)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "torch"
    print(json.dumps(here(sys.argv[1], sys.argv[2])))
