"""Saves and whole runs on a disk without room, in processes of their own.

`python full_disk.py KIND FOLDER`: `limit` makes the kernel refuse larger files, `small` mounts a
file system of one megabyte over the folder, in a name space of its own, and fills it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import write_paths
from hookloop_remote_monitor import RemoteMonitor
from write_paths import PATHS, Quiet, left_over

from hookloop import Callback, Trainer

#: Bytes that a file may have: none, one, ..., all of those of the save but one.
LIMITS = (0, 1, 100, 1000)
SMALL = 1 << 20
#: Those with a setting that says what becomes of a save that fails.
SAVERS = (
    *("backup", "whole checkpoint", "weights", "safetensors"),
    *("keep last", "keep best", "best and last"),
)


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Let no file grow beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def filled(folder: Path, leave: int = 0) -> Iterator[None]:
    """Fill a small disk."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    os.truncate(filler, max(filler.stat().st_size - leave, 0))
    try:
        yield
    finally:
        filler.unlink()


def mount(folder: Path) -> None:
    """Put an empty disk of one megabyte over a folder, for this process alone."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", folder]
    subprocess.run(command, check=True)


def trial(name: str, folder: Path, full: Any) -> dict[str, Any]:
    """Save twice, once without room, and once more; gives what was said and what can be read."""
    path, errors = PATHS[name], []
    save = path.begin(folder, 0)
    save(1)
    save(2)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with full:
            try:
                save(3)
            except OSError as error:
                errors.append(str(error))
        told = [str(one.message) for one in seen]
        then, left = path.read(folder), left_over(folder)
        save(4)
    return {"errors": errors, "told": told, "then": then, "left": left, "after": path.read(folder)}


def limits(folder: Path) -> dict[str, Any]:
    results = {}
    for policy in ("raise", "warn"):
        write_paths.ON_ERROR[0] = policy
        for name in PATHS if policy == "raise" else SAVERS:
            for limit in LIMITS:
                place = folder / f"{name}-{limit}-{policy}"
                place.mkdir()
                results[f"{name}|{limit}|{policy}"] = trial(name, place, limited(limit))
    return results


def small_disks(folder: Path) -> dict[str, Any]:
    results = {}
    for name in PATHS:
        mount(folder)
        results[f"{name}|small|raise"] = trial(name, folder, filled(folder))
        subprocess.run(["umount", "--lazy", folder], check=True)
    return results


# -- a run whose loggers have no room for a while --------------------------------------------------


class Fills(Callback):
    """Leaves no room in the second and third epoch of five."""

    def __init__(self, folder: Path, *, small: bool) -> None:
        self.folder, self.small = folder, small
        self.full: Any = None

    def on_epoch_begin(self, epoch: int) -> None:
        if epoch == 1:
            self.full = filled(self.folder) if self.small else limited(0)
            self.full.__enter__()

    def on_epoch_checkpoint(self, epoch: int) -> None:
        if epoch == 2:
            self.full.__exit__(None, None, None)


def logged(folder: Path, *, small: bool) -> dict[str, Any]:
    folder.mkdir()
    if small:
        mount(folder)
    nobody = "http://127.0.0.1:9"
    x = torch.linspace(-1, 1, 8).reshape(-1, 1)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1", seed=0)
    callbacks: list[Any] = [
        ("csv_logger", {"filename": folder / "log.csv"}),
        ("tensorboard", {"log_dir": folder / "logs", "write_graph": False}),
        RemoteMonitor(nobody, spool=folder / "spool", flush_timeout=0.0),
        Quiet(),
        Fills(folder, small=small),
    ]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        history = trainer.fit((x, x), epochs=5, callbacks=callbacks, verbose=0)
    rows = (folder / "log.csv").read_text().splitlines()
    events = sorted((folder / "spool").glob("event-*.json"))
    return {
        "outcome": history.outcome,
        "rows": [row.partition(",")[0] for row in rows],
        "points": points(folder / "logs" / "train"),
        "events": [json.loads(path.read_bytes())["key"].rpartition("-")[2] for path in events],
        "told": [str(one.message) for one in seen if "cannot be reached" not in str(one.message)],
    }


def points(folder: Path) -> list[int]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    return [
        event.step
        for path in sorted(folder.glob("*tfevents*"))
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag == "epoch_loss"
    ]


def main() -> None:
    torch.set_num_threads(1)
    kind, folder = sys.argv[1], Path(sys.argv[2])
    small = kind == "small"
    trials = small_disks(folder) if small else limits(folder)
    print(json.dumps({"trials": trials, "logged": logged(folder / "logged", small=small)}))


if __name__ == "__main__":
    main()
