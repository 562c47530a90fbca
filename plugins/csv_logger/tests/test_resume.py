"""A run that was killed and resumed leaves the file that an undisturbed run leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop_csv_logger import CSVLogger

from hookloop import Callback, CallbackList, Trainer, hookimpl
from hookloop.checkpoints import save_state

EPOCHS, BATCHES = 6, 4


class Saver(Callback):
    """Saves the state of the run at some of its batches, as epoch and batch."""

    def __init__(self, path: Path, at: tuple[int, int]) -> None:
        self.path, self.at = path, at

    @hookimpl(trylast=True)
    def on_batch_checkpoint(self, batch: int, logs: Any = None) -> None:
        if (self.loop.epoch, batch) == self.at:
            save_state(self.path, self.loop.state_dict())

    @hookimpl(trylast=True)
    def on_epoch_checkpoint(self, epoch: int, logs: Any = None) -> None:
        if (epoch, BATCHES) == self.at:
            save_state(self.path, self.loop.state_dict())


class Killer(Callback):
    """Kills the process after a batch of an epoch, or after the epoch was logged."""

    def __init__(self, at: tuple[int, int]) -> None:
        self.at = at

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.loop.epoch, batch) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    @hookimpl(trylast=True)
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if (epoch, BATCHES) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


class LateMetric(Callback):
    """Reports a new quantity from the fourth epoch on, which widens the file."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch >= 3:
            logs["late"] = torch.tensor([epoch, epoch + 1])


def train(path: Path, *others: Callback, append: bool, resume: Path | None = None) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(), torch.nn.Linear(8, 1))
    trainer = Trainer(model, loss="mse", optimizer="adam:lr=0.05", seed=3)
    x = torch.linspace(-1, 1, BATCHES * 8 * 3).reshape(-1, 3)
    trainer.fit(
        (x, x.sum(1, keepdim=True)),
        epochs=EPOCHS,
        batch_size=8,
        callbacks=[CSVLogger(path, append=append), LateMetric(), *others],
        verbose=0,
        resume=resume,
    )


def train_until_killed(folder: Path, saved: tuple[int, int], killed: tuple[int, int]) -> None:
    """Train in a process of its own, and have it die."""
    arguments = [str(folder), *map(str, (*saved, *killed))]
    done = subprocess.run([sys.executable, __file__, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL


if __name__ == "__main__":
    where, numbers = Path(sys.argv[1]), [int(word) for word in sys.argv[2:]]
    train(
        where / "log.csv",
        Saver(where / "state", (numbers[0], numbers[1])),
        Killer((numbers[2], numbers[3])),
        append=(where / "log.csv").exists(),
    )


@pytest.mark.reliability("A11", "B11")
@pytest.mark.parametrize(
    ("saved", "killed", "append"),
    [
        pytest.param((1, BATCHES), (2, BATCHES), False, id="row written, state not saved"),
        pytest.param((0, 1), (4, 2), False, id="state saved before the first row"),
        pytest.param((2, 2), (5, 1), True, id="inside epochs, widened since, appending"),
    ],
)
def test_a_killed_and_resumed_run_leaves_the_same_file(
    tmp_path: Path, saved: tuple[int, int], killed: tuple[int, int], *, append: bool
) -> None:
    """Byte for byte, with no epoch twice, after a SIGKILL and in another process."""
    undisturbed, disturbed = tmp_path / "undisturbed.csv", tmp_path / "log.csv"
    if append:
        for path in (undisturbed, disturbed):
            path.write_text("epoch,loss\n0,7\n1,8\n")  # of an earlier run, not to be touched
    train(undisturbed, append=append)
    train_until_killed(tmp_path, saved, killed)
    assert disturbed.read_bytes() != undisturbed.read_bytes()
    train(disturbed, append=append, resume=tmp_path / "state")
    assert disturbed.read_bytes() == undisturbed.read_bytes()
    assert len(disturbed.read_text().splitlines()) == 1 + EPOCHS + 2 * append


class Takes(Callback):
    """Takes the state of its run after every epoch."""

    def on_epoch_checkpoint(self, epoch: int, logs: Any = None) -> None:
        self.state = self.loop.state_dict()


class Restores(Callback):
    """Has a run continue from a state."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    @hookimpl(tryfirst=True)
    def on_train_begin(self, logs: Any = None) -> None:
        self.loop.load_state_dict(self.state)


def test_a_logger_that_the_state_does_not_know_goes_on_where_the_run_does(tmp_path: Path) -> None:
    """Rows before the epoch at which the run goes on stay, those after it are replaced."""
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,1\n1,2\n2,3\n3,4\n")
    takes = Takes()
    callbacks = CallbackList([takes], model=None)
    callbacks.on_train_begin()
    callbacks.on_epoch_end(1, {"loss": 2})
    callbacks = CallbackList([Restores(takes.state), CSVLogger(path)], model=None)
    callbacks.on_train_begin()
    callbacks.on_epoch_end(2, {"loss": 9})
    assert path.read_text() == "epoch,loss\n0,1\n1,2\n2,9\n"


def test_rows_that_have_disappeared_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that was deleted since is begun anew, and that is said."""
    logger = CSVLogger(tmp_path / "log.csv")
    callbacks = CallbackList([logger], model=None)
    callbacks.on_train_begin()
    logger.load_state_dict({"rows": 2, "waiting": [], "lost": 0})
    callbacks.on_epoch_end(2, {"loss": 9})
    assert (tmp_path / "log.csv").read_text() == "epoch,loss\n2,9\n"
    assert "2 earlier rows are gone from" in capsys.readouterr().out


def test_the_state_does_not_change_with_the_run(tmp_path: Path) -> None:
    """What was taken stays as it was taken."""
    logger = CSVLogger(tmp_path / "log.csv")
    callbacks = CallbackList([logger], model=None)
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0, {"loss": 9})
    state = logger.state_dict()
    callbacks.on_epoch_end(1, {"loss": 9})
    assert state == {"rows": 1, "waiting": [], "lost": 0}
