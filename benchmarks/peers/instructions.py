"""How many instructions a training step takes, counted by callgrind: noise does not touch that.

Each trainer has a process of its own. What 150 steps took, less what the 50 steps before them did,
is that of a hundred, without what the dumps of the counts cost. The garbage collector is off, as
its rounds fall where they fall.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
ON, DUMPS = 40, (50, 100, 250)


def available() -> bool:
    """Tell whether instructions can be counted here."""
    return shutil.which("callgrind_control") is not None


def a_step(name: str, callbacks: str) -> float:
    """Count the instructions of a step."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
        command += ["--instr-atstart=no", sys.executable, str(HERE / "instructions.py")]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        environment["KERAS_BACKEND"] = "torch"
        subprocess.run(
            [*command, name, callbacks], check=True, env=environment, capture_output=True
        )
        counts = {}
        for dump in Path(folder).glob("callgrind.*"):
            text = dump.read_text(errors="replace")
            at = re.search(r"^desc: Trigger: dump at (\d+)", text, re.MULTILINE)
            total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
            if at and total:
                counts[int(at[1])] = int(total[1])
    _, middle, last = DUMPS
    return (counts[last] - counts[middle]) / (last - 2 * middle + DUMPS[0])


def _control(*words: str) -> None:
    command = ["callgrind_control", *words, str(os.getpid())]
    subprocess.run(command, check=True, capture_output=True)


def counted(name: str, callbacks: str) -> None:
    """Be the process that is counted."""
    import torch
    from jobs import Job
    from trainers import train_of

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="hookloop-bench-") as folder:
        job = Job("tiny", callbacks, DUMPS[-1] + 10, 1, 1000, Path(folder))
        job.batches.at = {ON: lambda: _control("--instr=on")}
        for at in DUMPS:
            job.batches.at[at] = lambda at=at: _control(f"--dump=at {at}")
        gc.disable()
        train_of(name)(job)


if __name__ == "__main__":
    counted(sys.argv[1], sys.argv[2])
