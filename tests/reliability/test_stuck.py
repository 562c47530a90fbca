"""Saves that are interrupted, slow, or stuck: what is on disk stays whole, and waiting is said."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import policy
import pytest
import torch
from torch import nn

from hookloop import Callback, Trainer, files
from hookloop.checkpoints import load_state

X, Y = policy.arrays("training")


class Disk(files.Disk):
    """Notes each effect on a state, and acts once before the first of them, on its own thread."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act, self.seen = act, list[str]()

    def open(self, path: Path) -> Any:
        self.note(path)
        return super().open(path)

    def replace(self, source: Path, target: Path) -> None:
        self.note(source)
        super().replace(source, target)

    def note(self, path: Path) -> None:
        of_state = next((part for part in path.parts if part.startswith(".state-")), None)
        if of_state is not None:
            act, self.act = self.act, lambda: None
            act()
            self.seen.append(of_state)


def fit(*callbacks: Any, **options: Any) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(nn.Linear(8, 1), loss="mse", optimizer="adam", seed=1, device="cpu")
    arguments = {"epochs": 50, "batch_size": 8, "verbose": 0, **options}
    trainer.fit((X, Y), callbacks=list(callbacks), **arguments)
    return trainer


@pytest.mark.reliability("D3", "D5")
@pytest.mark.parametrize(
    ("numbers", "ends"),
    [([signal.SIGTERM], SystemExit), ([signal.SIGINT, signal.SIGINT], KeyboardInterrupt)],
    ids=["SIGTERM", "SIGINT twice"],
)
def test_a_signal_during_a_save_leaves_whole_states(
    numbers: list[int], ends: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The save that was under way completes; no other one is written at the same time."""
    watches = Callback()

    def interrupt() -> None:  # in the thread that writes
        os.kill(os.getpid(), numbers[0])
        while not watches.loop.interrupted:
            time.sleep(0.001)
        for number in numbers[1:]:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(files, "disk", Disk(interrupt))
    backup = ("backup_and_restore", {"backup_dir": tmp_path, "save_freq": 2})
    with pytest.raises(ends) as left:
        fit(watches, backup)
    assert ends is KeyboardInterrupt or left.value.code == 143
    states = sorted(tmp_path.glob("state-*"))
    assert states
    assert all(load_state(path)["loop"]["step"] for path in states)
    temporary = files.disk.seen
    assert [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []
    assert temporary == sorted(temporary, key=temporary.index)  # one after the other
    monkeypatch.undo()
    goes_on = fit(backup, epochs=3)
    whole = fit(epochs=3)
    assert torch.equal(policy.vector(goes_on.module), policy.vector(whole.module))


@pytest.mark.reliability("D5")
def test_a_save_that_sigusr1_asks_for_waits_for_the_one_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of them come meanwhile, one state more is saved."""
    disk = Disk(lambda: [os.kill(os.getpid(), signal.SIGUSR1) for _ in range(3)] and None)
    monkeypatch.setattr(files, "disk", disk)
    settings = {"backup_dir": tmp_path, "save_freq": "1 epochs", "save_on_sigusr1": True}
    places = []

    class Notes(Callback):
        def on_message(self, text: str) -> bool:
            places.append((self.loop.epoch, self.loop.batch, text.partition(": ")[2][:22]))
            return True

    fit(("backup_and_restore", {**settings, "keep": 9}), Notes(), epochs=3)
    saved = [place for place in places if place[2] == "saved, as SIGUSR1 asks"]
    assert len(saved) == 1
    assert len(set(disk.seen)) == 3 + 1
    assert disk.seen == sorted(disk.seen, key=disk.seen.index)


# -- a disk that hangs ---------------------------------------------------------------

HANGS = """
import signal, sys, threading
from pathlib import Path
import torch
from torch import nn
from hookloop import Trainer, files, saving

released = threading.Event()

class Hangs(files.Disk):
    def sync(self, file):
        if ".state-" in file.name or "model.pt" in file.name:
            released.wait()
        super().sync(file)

files.disk, saving.PATIENCE = Hangs(), 0.05
signal.signal(signal.SIGUSR2, lambda *_: released.set())
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where pytest runs with "&"
trainer = Trainer(nn.Linear(2, 1), loss="mse", optimizer="sgd", device="cpu")
x = torch.linspace(-1, 1, 8).reshape(4, 2)
try:
    trainer.fit((x, x[:, :1]), epochs=2, callbacks=[sys.argv[1]], verbose=0)
finally:
    print("over", trainer.history.outcome, flush=True)
"""
BACKUP = "backup_and_restore:backup_dir=backup,delete_checkpoint=false"
STUCK = [
    (BACKUP, "backup_and_restore: a state in backup"),
    ("model_checkpoint:filepath=model.pt", "model_checkpoint: model.pt"),
]


def started(folder: Path, callback: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(HANGS), callback]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, cwd=folder, **pipes)


@pytest.mark.parametrize(("callback", "what"), STUCK, ids=["backup", "checkpoint"])
def test_a_save_that_takes_long_is_said_once_and_waited_for(
    callback: str, what: str, tmp_path: Path
) -> None:
    """A checkpoint that was asked for is not dropped in silence."""
    with started(tmp_path, callback) as run:
        try:
            assert run.stdout is not None
            assert select.select([run.stdout], [], [], 60)[0], "nothing is said"
            assert run.stdout.readline() == (
                f"{what} is still being written after 0.05 s, and waited for.\n"
            )
            run.send_signal(signal.SIGUSR2)
            out, err = run.communicate(timeout=30)
        finally:
            run.kill()
    assert (out.splitlines()[-1], err, run.returncode) == ("over finished", "", 0)
    assert len(list(tmp_path.glob("backup/state-*"))) in (0, 2)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.reliability("D3")
def test_a_run_whose_disk_hangs_can_be_left(tmp_path: Path) -> None:
    """By Ctrl+C: a second one leaves the hook, a third the end, a fourth the interpreter's wait."""
    with started(tmp_path, BACKUP) as run:
        try:
            assert run.stdout is not None
            line = run.stdout.readline()
            while not line.startswith("over"):
                assert "is still being written" in line
                interrupt(run, lambda: bool(select.select([run.stdout], [], [], 0.2)[0]))
                line = run.stdout.readline()
            assert line == "over interrupted\n"
            interrupt(run, lambda: exited(run, 0.2))
            assert run.stderr is not None
            assert "KeyboardInterrupt" in run.stderr.read()
        finally:
            run.kill()
    assert run.returncode not in (0, -signal.SIGKILL)


def interrupt(run: subprocess.Popen[str], until: Callable[[], bool]) -> None:
    """Press Ctrl+C until it helps: the next one counts once the last was noticed."""
    for _ in range(100):
        run.send_signal(signal.SIGINT)
        if until():
            return
    raise AssertionError("it hangs on")


def exited(run: subprocess.Popen[str], patience: float) -> bool:
    try:
        return run.wait(patience) is not None
    except subprocess.TimeoutExpired:
        return False


# -- a writer that fails ---------------------------------------------------------------


class Full(files.Disk):
    def sync(self, file: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FAILING = {
    "backup": ("backup_and_restore:save_freq=2", "backup_dir", (0, 2)),
    "backup, by epoch": ("backup_and_restore", "backup_dir", (1, 0)),
    "checkpoint": ("model_checkpoint:save_freq=2", "filepath", (0, 2)),
    "checkpoint, by epoch": ("model_checkpoint", "filepath", (1, None)),
}


@pytest.mark.reliability("C1")
@pytest.mark.parametrize(("choice", "path", "where"), FAILING.values(), ids=FAILING)
def test_an_error_of_the_writer_surfaces_at_the_next_hook_of_who_saves(
    choice: str,
    path: str,
    where: tuple[int, int | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the exception that ends the run, which is no success."""

    class Waits(Callback):
        def on_train_batch_begin(self, batch: int) -> None:
            files.background(lambda: None).result()  # what was given to the writer before is over
            self.last = (self.loop.epoch, batch)

        def on_epoch_begin(self) -> None:
            monkeypatch.setattr(files, "disk", Full())

        def on_exception(self, exception: BaseException) -> None:
            self.told = (self.loop.epoch, self.loop.batch)

    waits, separator = Waits(), "," if ":" in choice else ":"
    with pytest.raises(files.FileError) as caught:
        fit(waits, f"{choice}{separator}{path}='{tmp_path / 'state.pt'}'")
    assert waits.told == where
    assert any(note.startswith("raised by callback") for note in caught.value.__notes__)
    assert waits.loop.outcome == "failed"
