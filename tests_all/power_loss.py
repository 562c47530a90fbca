"""Saves on a disk that loses its power, to be run in a mount name space of its own, by root.

`python power_loss.py FOLDER TRIALS SEED`: an ext4 in a file, mounted through a loop device, is
shut down in the middle of saves (FS_IOC_SHUTDOWN: what is not on the disk by then is lost), mounted
again, which replays its journal, and read. Prints for each trial what was acknowledged and read.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from hookloop_backup_and_restore import _states

SHUTDOWN = 0x8004587D
FLUSH_LOG, NO_FLUSH_LOG = 1, 2


def state(number: int) -> dict[str, Any]:
    """The state of a run of some megabytes, all of whose numbers are that of the save."""
    empty: dict[str, Any] = {key: {} for key in ("rng", "history", "callbacks", "metrics")}
    weights = {f"{layer}": torch.full((256, 1024), float(number)) for layer in range(4)}
    return {
        "format": "hookloop.state", "version": 1, "optimizers": [], "scaler": None,
        "model": weights, "loop": {"epoch": number, "batch": 0, "step": number}, **empty,
    }  # fmt: skip


def saves(folder: Path, told: int, *, careless: bool) -> None:
    """Save for ever, and tell after each which it was; without care: no sync of anything."""
    if careless:
        os.fsync = lambda file: None
    for number in range(1, 1000):
        _states.write(folder, state(number), 2, [])
        os.write(told, f"{number}\n".encode())


def trial(root: Path, chance: random.Random, *, careless: bool) -> dict[str, Any]:
    image, mounted = root / "disk", root / "mounted"
    mounted.mkdir(exist_ok=True)
    with open(image, "wb") as file:
        file.truncate(96 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    heard, told = os.pipe()
    child = os.fork()
    if not child:
        with suppress(OSError):  # as soon as there is no power
            saves(mounted / "backup", told, careless=careless)
        os._exit(0)
    lines = b""
    while lines.count(b"\n") < 2:
        lines += os.read(heard, 4096)
    time.sleep(chance.uniform(0, 0.15))  # the moment of the power cut
    folder = os.open(mounted, os.O_RDONLY)
    os.set_blocking(heard, False)
    how = chance.choice((FLUSH_LOG, NO_FLUSH_LOG))
    acknowledged = lines + read_all(heard)
    fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", how))
    os.close(folder)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(heard)
    os.close(told)
    subprocess.run(["umount", mounted], check=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    try:
        newest = _states.newest(mounted / "backup")
    finally:
        subprocess.run(["umount", mounted], check=True)
    whole = newest.state is not None and {
        *(value.unique().tolist()[0] for value in newest.state["model"].values()),
        newest.state["loop"]["epoch"],
    }
    return {
        "acknowledged": int(acknowledged.split()[-1]),
        "read": newest.state["loop"]["epoch"] if newest.state else None,
        "whole": bool(whole) and len(whole) == 1,
        "damaged": list(newest.damaged.values()),
    }


def read_all(pipe: int) -> bytes:
    try:
        return os.read(pipe, 1 << 16)
    except BlockingIOError:
        return b""


def main() -> None:
    torch.set_num_threads(1)
    root, trials, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(seed)
    careless = "careless" in sys.argv
    print(json.dumps([trial(root, chance, careless=careless) for _ in range(trials)]))


if __name__ == "__main__":
    main()
