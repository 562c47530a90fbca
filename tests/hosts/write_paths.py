"""Everything in core and in our plugins that writes files, each as: begin, save n, read it back."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hookloop_backup_and_restore import BackupAndRestore, _states
from hookloop_csv_logger import CSVLogger
from hookloop_model_checkpoint import ModelCheckpoint
from hookloop_remote_monitor._event import Event
from hookloop_remote_monitor._queue import Queue
from hookloop_remote_monitor._sync import TARGET, remember
from hookloop_tensorboard import TensorBoard

from hookloop import Callback, CallbackList, checkpoints, files, reading
from hookloop.loop import Loop

Save = Callable[[int], Any]


@dataclass(frozen=True)
class WritePath:
    """One thing that writes.

    Attributes:
        begin: Starts a run in a folder, going on after save n; gives what saves the n-th time.
        read: Gives the number of the newest save that can be read; None if there is none. Raises
            if something is there that cannot be read.
        durable: Whether a save that has returned is on the disk, power cut or not.
        keeps: Whether what cannot be written is kept and written later, without an error.
    """

    begin: Callable[[Path, int], Save]
    read: Callable[[Path], int | None]
    durable: bool = True
    keeps: bool = False


def state(number: int) -> dict[str, Any]:
    """The state of a small run after so many epochs."""
    empty: dict[str, Any] = {key: {} for key in ("rng", "history", "callbacks", "metrics")}
    return {
        "format": "hookloop.state", "version": 1, "optimizers": [], "scaler": None,
        "model": {"weight": torch.full((1, 1), float(number))},
        "loop": {"epoch": number, "batch": 0, "step": number}, **empty,
    }  # fmt: skip


def number_in(path: Path) -> int | None:
    """The number in the weights of a file, None if it is not there."""
    if not reading.whole_folder(path).exists():
        return None
    return int(checkpoints.load_checkpoint(path)["weight"].item())


# -- core ---------------------------------------------------------------


def begin_file(folder: Path, after: int) -> Save:
    path = folder / "deep" / "er" / "a.json"
    files.prepare(path, Loop(model=None), "test")
    return lambda number: files.atomic_write(path, json.dumps(number).encode())


def read_file(folder: Path) -> int | None:
    path = folder / "deep" / "er" / "a.json"
    return int(json.loads(path.read_bytes())) if path.exists() else None


def begin_state(name: str) -> Callable[[Path, int], Save]:
    def begin(folder: Path, after: int) -> Save:
        files.prepare(folder / "deep" / name, Loop(model=None), "test")
        return lambda number: checkpoints.save_state(folder / "deep" / name, state(number))

    return begin


def begin_lock(folder: Path, after: int) -> Save:
    def save(number: int) -> None:
        lock = files.Lock(folder / "run")
        lock.acquire()
        (folder / f"{number}").mkdir()
        lock.release(delete=True)

    return save


def read_lock(folder: Path) -> int:
    """Whoever died, the next one can have the folder."""
    lock = files.Lock(folder / "run")
    lock.acquire()
    lock.release(delete=True)
    return max((int(path.name) for path in folder.glob("[0-9]*")), default=0)


# -- savers ---------------------------------------------------------------


def begin_run(*callbacks: Any) -> Save:
    model = torch.nn.Linear(1, 1, bias=False)
    run = CallbackList(list(callbacks), model=model)
    run.on_train_begin()

    def save(number: int) -> None:
        with torch.no_grad():
            model.weight.fill_(number)
        run.on_epoch_end(number - 1, {"val_loss": -float(number)})
        files.background(int).result()  # all is written
        for callback in run:
            if hasattr(callback, "_settle"):
                callback._settle(wait=True)  # and known to be

    return save


class Quiet(Callback):
    def on_message(self, text: str) -> bool:
        return True


def begin_backup(folder: Path, after: int) -> Save:
    backup = BackupAndRestore(folder / "backup", on_save_error=ON_ERROR[0])
    return begin_run(Quiet(), backup)


def read_backup(folder: Path) -> int | None:
    newest = _states.newest(folder / "backup")
    if newest.state is None:
        assert not newest.damaged, newest.damaged
        return None
    return int(newest.state["model"]["weight"].item())


#: What savers do about errors; set by whoever wants to hear of them.
ON_ERROR: list[Any] = ["raise"]


def checkpoint(*names: str, **settings: Any) -> Callable[[Path, int], Save]:
    def begin(folder: Path, after: int) -> Save:
        options = {"on_save_error": ON_ERROR[0], "async_save": False, **settings}
        return begin_run(
            *(ModelCheckpoint(folder / "run" / name, **options) for name in names), Quiet()
        )

    return begin


def read_all(folder: Path) -> int | None:
    """Every file that is there can be read; the newest of them counts."""
    found = [number_in(path) for path in (folder / "run").glob("[!.]*")]
    return max((number for number in found if number is not None), default=None)


def read_both(folder: Path) -> int | None:
    """Of two files for the same, the older counts."""
    found = [number_in(folder / "run" / name) for name in ("best.pt", "last.pt")]
    return min((number or 0 for number in found), default=None) or None


# -- loggers ---------------------------------------------------------------


def begin_csv(*, wider: bool) -> Callable[[Path, int], Save]:
    def begin(folder: Path, after: int) -> Save:
        logger = CSVLogger(folder / "log.csv")
        run = CallbackList([logger, Quiet()], model=None)
        run.on_train_begin()
        if after:
            logger.load_state_dict({"rows": after, "waiting": [], "lost": 0})

        def save(number: int) -> None:
            columns = {f"more{number}": 1} if wider else {}
            run.on_epoch_end(number - 1, {"loss": number + 0.125, **columns})

        return save

    return begin


def read_csv(folder: Path) -> int | None:
    """All rows are whole, but for one without its end, which is none."""
    if not (folder / "log.csv").exists():
        return None
    text = (folder / "log.csv").read_text()
    rows = list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))
    numbers = [(int(row["epoch"]), float(row["loss"])) for row in rows]
    assert numbers == [(at, at + 1.125) for at in range(len(rows))], text
    return len(rows)


def begin_events(folder: Path, after: int) -> Save:
    board = TensorBoard(folder / "logs", write_graph=False)
    run = CallbackList([board, Quiet()], model=None)
    run.on_train_begin()
    if after:
        board.load_state_dict(json.loads((folder / f"after-{after}.json").read_text()))

    def save(number: int) -> None:
        run.on_epoch_end(number - 1, {"loss": float(number)})
        with suppress(OSError):  # for whoever goes on from there
            (folder / f"after-{number}.json").write_text(json.dumps(board.state_dict()))

    return save


def read_events(folder: Path) -> int | None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    values = [
        value.tensor.float_val[0]
        for path in sorted((folder / "logs" / "train").glob("*tfevents*"))
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag == "epoch_loss"
    ]
    assert values == [float(at + 1) for at in range(len(values))]
    return len(values) or None


def begin_spool(folder: Path, after: int) -> Save:
    queue = Queue(10_000, 1 << 20, folder / "spool")  # more than come before a late kill

    def save(number: int) -> None:
        try:
            queue.append(Event(f"{number}", "text/plain", "x" * 100))
        except OSError:
            if ON_ERROR[0] == "raise":
                raise

    return save


def read_spool(folder: Path) -> int | None:
    """All events are there, but for one that is torn, which is none."""
    keys = []
    for path in sorted((folder / "spool").glob("event-*.json")):
        with suppress(ValueError):
            keys.append(int(json.loads(path.read_bytes())["key"]))
    assert keys == list(range(1, len(keys) + 1))
    return len(keys) or None


def begin_target(folder: Path, after: int) -> Save:
    Queue(10, 1 << 20, folder / "spool").close()
    return lambda number: remember(folder / "spool", f"http://{number}", root="", path="")


def read_target(folder: Path) -> int | None:
    path = folder / "spool" / TARGET
    if not path.exists():
        return None
    return int(json.loads(path.read_bytes())["root"].removeprefix("http://"))


PATHS = {
    "file": WritePath(begin_file, read_file),
    "state as .pt": WritePath(
        begin_state("run.pt"), lambda folder: number_in(folder / "deep" / "run.pt")
    ),
    "state as folder": WritePath(
        begin_state("run"), lambda folder: number_in(folder / "deep" / "run")
    ),
    "backup": WritePath(begin_backup, read_backup),
    "whole checkpoint": WritePath(checkpoint("m.pt"), read_all),
    "weights": WritePath(checkpoint("m.weights.pt"), read_all),
    "safetensors": WritePath(checkpoint("m.safetensors"), read_all),
    "keep last": WritePath(checkpoint("{epoch}.pt", keep_last=2), read_all),
    "keep best": WritePath(checkpoint("{epoch}.safetensors", keep_best=2), read_all),
    "best and last": WritePath(checkpoint("best.pt", "last.pt", save_best_only=True), read_both),
    "rows": WritePath(begin_csv(wider=False), read_csv, durable=False, keeps=True),
    "rows with new columns": WritePath(begin_csv(wider=True), read_csv, keeps=True),
    "events": WritePath(begin_events, read_events, durable=False, keeps=True),
    "spool": WritePath(begin_spool, read_spool, durable=False, keeps=True),
    "target of a spool": WritePath(begin_target, read_target),
    "lock": WritePath(begin_lock, read_lock, durable=False),
}


# -- what is wrong on purpose, to see that it is found ---------------------------------------------


def begin_broken(save: Callable[[Path, int], None]) -> Callable[[Path, int], Save]:
    def begin(folder: Path, after: int) -> Save:
        return lambda number: save(folder / "a.json", number)

    return begin


def in_place(path: Path, number: int) -> None:
    with open(path, "ab", buffering=0) as file:
        file.truncate(0)
        file.write(json.dumps({"number": number}).encode())


def deleted_first(path: Path, number: int) -> None:
    path.unlink(missing_ok=True)
    files.atomic_write(path, json.dumps({"number": number}).encode())


def read_broken(folder: Path) -> int | None:
    path = folder / "a.json"
    return int(json.loads(path.read_bytes())["number"]) if path.exists() else None


BROKEN = {
    "written in place": WritePath(begin_broken(in_place), read_broken),
    "deleted first": WritePath(begin_broken(deleted_first), read_broken),
}


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder for files that are synced often, and need not be; on a disk if there is no other."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="hookloop-", dir=memory) as folder:
        yield Path(folder)


def left_over(folder: Path) -> list[str]:
    """Temporary files, and what stands aside."""
    return sorted(
        os.path.relpath(path, folder)
        for path in folder.rglob(".*")
        if path.name.endswith((".tmp", ".previous"))
    )
