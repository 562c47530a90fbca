"""Two processes with one backup folder: `python two_runs.py FOLDER N` starts N pairs together.

The processes are forks of this one. Prints for each pair who trained, and what the other said.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from forks import leave_after, status_of
from hookloop_backup_and_restore import BackupAndRestore

from hookloop import Callback, Trainer
from hookloop.errors import HookloopError


class Trains(Callback):
    """Says that it trains, and goes on until it is told to end."""

    def __init__(self, told: int, ending: int) -> None:
        self.told, self.ending = told, ending

    def on_train_batch_end(self) -> None:
        os.write(self.told, f"trains {os.getpid()}\n".encode())
        os.read(self.ending, 1)


def train(folder: Path, ready: int, told: int, ending: int) -> None:
    x = torch.zeros(2, 1)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd", device="cpu")
    callbacks = [BackupAndRestore(folder / "backup"), Trains(told, ending)]
    os.read(ready, 1)
    began = time.perf_counter()
    try:
        trainer.fit((x, x), callbacks=callbacks, verbose=0)
    except HookloopError as error:
        line = json.dumps([time.perf_counter() - began, str(error)])
        os.write(told, f"refused {line}\n".encode())
        sys.exit(1)


def pair(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    ready, go = os.pipe()
    heard, told = os.pipe()
    ending, end = os.pipe()
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            leave_after(lambda: train(folder, ready, told, ending))
        children.append(child)
    os.write(go, b"..")
    os.close(told)
    lines = b""
    while lines.count(b"\n") < 2:  # the one that trains waits until the other has ended
        lines += os.read(heard, 4096)
    os.write(end, b"..")
    statuses = {child: status_of(child) for child in children}
    for one in (ready, go, heard, ending, end):
        os.close(one)
    said = dict(line.split(" ", 1) for line in lines.decode().splitlines())
    seconds, error = json.loads(said["refused"])
    return {
        "trained": int(said["trains"]),
        "statuses": [statuses.pop(int(said["trains"])), *statuses.values()],
        "seconds": seconds,
        "error": error,
    }


def main() -> None:
    torch.set_num_threads(1)
    x = torch.zeros(2, 1)
    warm = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd", device="cpu")
    warm.fit((x, x), verbose=0)  # which imports what a first step does, once for all
    root = Path(sys.argv[1])
    print(json.dumps([pair(root / f"{number}") for number in range(int(sys.argv[2]))]))


if __name__ == "__main__":
    main()
