"""A run that was killed and resumed leaves the curves that an undisturbed run leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop_tensorboard import TensorBoard

from hookloop import Callback, Trainer, hookimpl
from hookloop.checkpoints import save_state

EPOCHS, BATCHES = 5, 4


class Saver(Callback):
    """Saves the state of the run at one of its batches, as epoch and batch."""

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
    """Kills the process after a batch of an epoch, or after the epoch was recorded."""

    def __init__(self, at: tuple[int, int]) -> None:
        self.at = at

    @hookimpl(trylast=True)
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.loop.epoch, batch) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    @hookimpl(trylast=True)
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if (epoch, BATCHES) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder: Path, *others: Callback, resume: Path | None = None) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(), torch.nn.Linear(8, 1))
    x = torch.linspace(-1, 1, BATCHES * 12).reshape(-1, 3)
    board = TensorBoard(
        folder, update_freq="batch", histogram_freq=2, write_grads=True, write_images=True
    )
    Trainer(model, loss="mse", optimizer="adam:lr=0.05", seed=3).fit(
        (x, x.sum(1, keepdim=True)),
        epochs=EPOCHS,
        batch_size=4,
        validation_data=(x[:5], x[:5, :1]),
        callbacks=[board, *others],
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
    state = where / "state"
    train(
        where / "logs",
        Saver(state, (numbers[0], numbers[1])),
        Killer((numbers[2], numbers[3])),
        resume=state if state.exists() else None,
    )


def everything(read: Any, folder: Path) -> dict[str, Any]:
    """All that a run shows, without the times."""
    found: dict[str, Any] = {}
    for run in ("train", "validation"):
        accumulator = read(folder / run)
        tags = accumulator.Tags()
        for tag in tags["scalars"]:
            found[run, tag] = [(e.step, e.value) for e in accumulator.Scalars(tag)]
        for tag in tags["histograms"]:
            events = accumulator.Histograms(tag)
            found[run, tag] = [(e.step, e.histogram_value) for e in events]
        for tag in tags["images"]:
            events = accumulator.Images(tag)
            found[run, tag] = [(e.step, e.encoded_image_string) for e in events]
        for tag in tags["tensors"]:
            found[run, tag] = [e.step for e in accumulator.Tensors(tag)]
    return found


@pytest.mark.parametrize(
    ("saved", "killed"),
    [
        pytest.param((1, BATCHES), (3, 1), id="at an epoch, killed in a later one"),
        pytest.param((2, 1), (2, BATCHES), id="in an epoch, killed after it was recorded"),
        pytest.param((0, 0), (4, 2), id="at the first batch"),
    ],
)
def test_a_killed_and_resumed_run_shows_the_same(
    tmp_path: Path, read: Any, saved: tuple[int, int], killed: tuple[int, int]
) -> None:
    """Every step is there once, with the value of an undisturbed run, after a SIGKILL."""
    train(tmp_path / "undisturbed")
    train_until_killed(tmp_path, saved, killed)
    train(tmp_path / "logs", resume=tmp_path / "state")

    found, wanted = (everything(read, tmp_path / name) for name in ("logs", "undisturbed"))
    text = ("train", "configuration/text_summary")
    assert wanted.pop(text) == [0]
    assert 0 in found.pop(text)  # and once more by the resumed run, unless that replaced it
    assert found == wanted
    steps = [step for step, _ in found["train", "batch_loss"]]
    assert steps == list(range(1, EPOCHS * BATCHES + 1))


def test_a_run_can_die_and_be_resumed_several_times(tmp_path: Path, read: Any) -> None:
    """The files of all that went before are continued."""
    train(tmp_path / "undisturbed")
    train_until_killed(tmp_path, (0, BATCHES), (1, 2))
    train_until_killed(tmp_path, (2, BATCHES), (3, 2))
    train(tmp_path / "logs", resume=tmp_path / "state")

    found, wanted = (everything(read, tmp_path / name) for name in ("logs", "undisturbed"))
    assert found["train", "batch_loss"] == wanted["train", "batch_loss"]
    assert found["validation", "epoch_loss"] == wanted["validation", "epoch_loss"]


def test_files_of_others_are_not_touched_by_a_resumed_run(tmp_path: Path) -> None:
    """Dropped is only what this run wrote after the state was saved."""
    train_until_killed(tmp_path, (0, BATCHES), (2, 1))
    others = tmp_path / "logs" / "train" / "events.out.tfevents.0000000001.host.1.other"
    others.write_bytes(b"theirs")
    train(tmp_path / "logs", resume=tmp_path / "state")

    assert others.read_bytes() == b"theirs"


def test_resuming_changes_no_file_before_there_is_something_to_write(tmp_path: Path) -> None:
    """A run that is resumed and has nothing left leaves all as it was."""
    train(tmp_path / "logs", Saver(tmp_path / "state", (EPOCHS - 1, BATCHES)))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*tfevents*")}
    train(tmp_path / "logs", resume=tmp_path / "state")

    assert {path: path.read_bytes() for path in tmp_path.rglob("*tfevents*")} == before
