"""Writing in the background: nothing torn, nothing lost, no failure unheard."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from hookloop_model_checkpoint import ModelCheckpoint

import hookloop
from hookloop import Callback, CallbackList, Trainer, files
from hookloop.errors import FileError


class FullDisk(files.Disk):
    """A disk that has no room for some files, counted from 1 in the order of writing."""

    def __init__(self, *fails: int) -> None:
        self.fails = fails
        self.written = 0

    def open(self, path: Path) -> IO[bytes]:
        if "trial" in path.name:
            return super().open(path)
        self.written += 1
        return Full(path) if self.written in self.fails else super().open(path)


class Full:
    """A file that takes a few bytes, then no more."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "xb")  # noqa: SIM115  (closed in __exit__)

    def write(self, content: bytes) -> int:
        if self.file.tell() + len(content) > 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Full:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


class Listener(Callback):
    """Remembers which files were announced, in which thread, and whether they were there."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, float, bool]] = []

    @hookloop.hookimpl(optionalhook=True)
    def on_checkpoint_saved(self, path, logs):
        assert threading.current_thread() is threading.main_thread()
        self.heard.append((path, logs["val_loss"], Path(path).exists()))


@pytest.fixture
def gate():
    """Holds the writer thread until it is set."""
    opened = threading.Event()
    files.background(lambda: opened.wait(30))
    yield opened
    opened.set()


def begun(model, *callbacks) -> CallbackList:
    chosen = CallbackList(list(callbacks), model=model)
    chosen.on_train_begin()
    return chosen


def weight(path: str) -> float:
    return torch.load(path, weights_only=True)["model"]["weight"].item()


@torch.no_grad()
def test_training_does_not_change_what_is_being_written(model, gate) -> None:
    """The file holds the weights of its moment, however late it is written."""
    model.weight.fill_(1)
    callbacks = begun(model, ModelCheckpoint("m.pt"))
    callbacks.on_epoch_end(0)
    model.weight.fill_(99)
    gate.set()
    callbacks.on_train_end()
    assert weight("m.pt") == 1


@torch.no_grad()
def test_the_memory_of_a_copy_is_not_used_again_too_early(model) -> None:
    """Every file of a quick run holds the weights of its own epoch."""
    callbacks = begun(model, ModelCheckpoint("{epoch}.pt"))
    for epoch in range(20):
        model.weight.fill_(epoch + 1)
        callbacks.on_epoch_end(epoch)
    model.weight.fill_(99)
    callbacks.on_train_end()
    assert [weight(f"{epoch}.pt") for epoch in range(1, 21)] == list(range(1, 21))


def test_training_goes_on_while_a_file_is_written(model, gate) -> None:
    """The hook returns although nothing is on disk yet."""
    callbacks = begun(model, ModelCheckpoint("m.pt"))
    callbacks.on_epoch_end(0)
    assert not Path("m.pt").exists()
    gate.set()
    callbacks.on_train_end()
    assert Path("m.pt").exists()


def test_everything_is_on_disk_when_fit_raises(model) -> None:
    """An exception of the run does not cost the file before it."""

    class Bad(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise ValueError("broken")

    x = torch.zeros(4, 1)
    trainer = Trainer(model, loss="mse", optimizer="sgd:lr=0.1")
    with pytest.raises(ValueError, match="broken"):
        trainer.fit((x, x), epochs=2, verbose=0, callbacks=[ModelCheckpoint("m.pt"), Bad()])
    assert torch.load("m.pt", weights_only=True)["loop"]["epoch"] == 1


@pytest.mark.parametrize("async_save", [True, False], ids=["background", "in place"])
def test_others_hear_of_a_file_once_it_is_there(run, async_save: bool) -> None:
    """on_checkpoint_saved is fired once a file, with the logs of its epoch, by fit's own thread."""
    listener = Listener()
    checkpoint = ModelCheckpoint("{epoch}.pt", save_best_only=True, async_save=async_save)
    run(listener, checkpoint, values=[3, 4, 2])
    assert listener.heard == [("1.pt", 3, True), ("3.pt", 2, True)]


def test_two_savers_bring_one_hook(run) -> None:
    """The specification is shared; each announces its own files."""
    listener = Listener()
    run(listener, ModelCheckpoint("a.pt"), ModelCheckpoint("b.pt"), values=[1])
    assert [path for path, *_ in listener.heard] == ["a.pt", "b.pt"]


def test_a_failure_is_raised_at_the_next_hook(model, gate, monkeypatch) -> None:
    """Which file, why, and what to do; the file of before is whole, and nothing else is left."""
    gate.set()
    callbacks = begun(model, ModelCheckpoint("m.pt"))
    monkeypatch.setattr(files, "disk", FullDisk(2))
    with torch.no_grad():
        model.weight.fill_(1)
    callbacks.on_epoch_end(0)
    with torch.no_grad():
        model.weight.fill_(2)
    callbacks.on_epoch_end(1)
    with pytest.raises(FileError, match=r"m\.pt cannot be written: No space left") as caught:
        callbacks.on_epoch_end(2)
    assert caught.value.fix == "make room on that disk, or choose another folder"
    assert (
        "while model_checkpoint was saving m.pt; what was saved before is intact"
        in caught.value.__notes__
    )
    assert [path.name for path in Path().iterdir()] == ["m.pt"]
    assert weight("m.pt") == 1


def test_a_failure_of_the_last_save_is_raised_before_fit_returns(model, monkeypatch) -> None:
    """There is no next epoch, but there is an end."""
    callbacks = begun(model, ModelCheckpoint("m.pt"))
    monkeypatch.setattr(files, "disk", FullDisk(1))
    callbacks.on_epoch_end(0)
    with pytest.raises(FileError, match="No space left"):
        callbacks.on_train_end()


def test_in_place_a_failure_is_raised_at_once(model, monkeypatch) -> None:
    """async_save=False waits for the disk."""
    callbacks = begun(model, ModelCheckpoint("m.pt", async_save=False))
    monkeypatch.setattr(files, "disk", FullDisk(1))
    with pytest.raises(FileError, match="No space left"):
        callbacks.on_epoch_end(0)


@pytest.mark.reliability("C1")
@pytest.mark.parametrize("async_save", [True, False], ids=["background", "in place"])
@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
def test_training_may_go_on_without_a_file(
    run, monkeypatch, capsys: pytest.CaptureFixture[str], name: str, async_save: bool
) -> None:
    """on_save_error="warn"; what was not saved is not the best; the end says how many failed."""
    monkeypatch.setattr(files, "disk", FullDisk(2))
    checkpoint = ModelCheckpoint(
        name, save_best_only=True, on_save_error="warn", async_save=async_save
    )
    with pytest.warns(RuntimeWarning, match=f"{name} was not saved, and training goes on") as all_:
        run(checkpoint, values=[3, 1, 5, 2])
    assert len(all_) == 1
    assert capsys.readouterr().out.startswith(
        f"model_checkpoint: saves that failed: 1; the last: {name} cannot be written: No space left"
    )
    assert checkpoint.best == 2
    model = torch.nn.Linear(1, 1, bias=False)
    hookloop.load_weights(model, name)
    assert model.weight.item() == 4


def test_older_files_stay_while_newer_ones_cannot_be_written(run, monkeypatch) -> None:
    """keep_last deletes nothing for a file that is not there."""
    monkeypatch.setattr(files, "disk", FullDisk(3, 4))
    checkpoint = ModelCheckpoint("{epoch}.pt", keep_last=2, on_save_error="warn")
    with pytest.warns(RuntimeWarning, match="was not saved"):
        run(checkpoint, values=[1, 2, 3, 4])
    assert sorted(path.name for path in Path().iterdir()) == ["1.pt", "2.pt"]


def test_memory_is_given_back_after_the_run(run) -> None:
    """No copy of the state outlives it."""
    checkpoint = ModelCheckpoint("m.pt")
    run(checkpoint, values=[1, 2])
    assert checkpoint._snapshot._kept == {}


def test_saving_draws_no_random_numbers() -> None:
    """A run with a checkpoint every step ends with the weights of one without, bit for bit."""
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
    ends = []
    for callbacks in ([], [ModelCheckpoint("m.pt", save_freq=1)]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5))
        trainer = Trainer(model, loss="mse", optimizer="adam:lr=0.1", seed=0, device="cpu")
        trainer.fit((x, x), batch_size=4, epochs=2, callbacks=callbacks, verbose=0)
        ends.append(model[0].weight)
    assert ends[0].equal(ends[1])
