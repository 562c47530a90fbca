"""Savers beside a run that goes on: nothing torn, nothing late, no failure unheard."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from hookloop import Callback, CallbackList, Trainer, files
from hookloop.checkpoints import load_checkpoint
from hookloop.errors import FileError

SAVERS = {
    "model_checkpoint of a state": "model_checkpoint:filepath=saved.pt",
    "model_checkpoint of weights": "model_checkpoint:filepath=saved.safetensors",
    "backup_and_restore": "backup_and_restore:backup_dir=saved,delete_checkpoint=false",
}
each_saver = pytest.mark.parametrize("saver", SAVERS.values(), ids=SAVERS)


class Disk(files.Disk):
    """Does something before the first piece of a state is written, in the writer's thread.

    Args:
        meanwhile: What.
    """

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self.meanwhile = meanwhile
        self.done = False

    def open(self, path: Path) -> IO[bytes]:
        file: Any = super().open(path)
        if path.suffix == ".safetensors" or ".saved." in path.name:
            return _Watched(file, self)
        return file


class _Watched:
    def __init__(self, file: IO[bytes], disk: Disk) -> None:
        self._file, self._disk = file, disk

    def write(self, data: Any) -> int:
        if not self._disk.done:
            self._disk.done = True
            self._disk.meanwhile()
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Disk]]:
    """Have all writing go through a `Disk`, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def use(meanwhile: Callable[[], object]) -> Disk:
        disk = Disk(meanwhile)
        monkeypatch.setattr(files, "disk", disk)
        return disk

    yield use
    files.background(lambda: None).result()


def saved_weights() -> dict[str, torch.Tensor]:
    paths = [Path("saved.pt"), Path("saved.safetensors"), *Path().glob("saved/state-*")]
    return load_checkpoint(next(path for path in paths if path.exists()))


def begun(saver: str, model: torch.nn.Module) -> CallbackList:
    optimizer = torch.optim.SGD(model.parameters())
    callbacks = CallbackList([saver], model=model, optimizer=optimizer)
    callbacks.on_train_begin()
    return callbacks


@each_saver
def test_what_is_written_is_of_one_moment(saver: str, use: Callable[..., Disk]) -> None:
    """Weights that change while they are written, as they do in the next step, are not in it."""
    layers = (torch.nn.Linear(600, 600) for _ in range(2))  # larger than a buffer of the writer
    model = torch.nn.Sequential(*layers).requires_grad_(False)
    for parameter in model.parameters():
        parameter.fill_(1)
    callbacks = begun(saver, model)
    disk = use(lambda: [parameter.fill_(99) for parameter in model.parameters()])
    callbacks.on_epoch_end(0)
    callbacks.on_train_end()
    assert disk.done
    assert all(value.eq(1).all() for value in saved_weights().values())
    assert all(value.eq(99).all() for value in model.state_dict().values())


@each_saver
def test_a_failure_is_heard_at_the_next_hook(saver: str, use: Callable[..., Disk]) -> None:
    """The run does not go on as if its state were saved."""

    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    callbacks = begun(saver, torch.nn.Linear(2, 1))
    use(fail)
    callbacks.on_epoch_end(0)
    files.background(lambda: None).result()  # the writer is done with it
    with pytest.raises(FileError, match="cannot be written: Input/output error"):
        callbacks.on_epoch_end(1)


class Opens(Callback):
    """Lets the writer go on when the run is at its end, not before."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def on_train_end(self, logs: Any = None) -> None:
        self.opened.set()


@each_saver
def test_everything_is_on_disk_when_fit_returns(saver: str, use: Callable[..., Disk]) -> None:
    """Though the disk is slow, and the last save has only begun when the run ends."""
    opens = Opens()

    def slow() -> None:
        assert opens.opened.wait(30)
        time.sleep(0.3)  # what a disk takes

    disk = use(slow)
    x = torch.zeros(4, 2)
    model = torch.nn.Linear(2, 1)
    trainer = Trainer(model, loss="mse", optimizer="sgd:lr=0.1", device="cpu")
    trainer.fit((x, x[:, :1]), epochs=1, callbacks=[opens, saver], verbose=0)
    assert disk.done
    assert saved_weights()["weight"].equal(model.weight)


@each_saver
def test_one_save_is_in_flight_at_most(saver: str, use: Callable[..., Disk]) -> None:
    """The next one waits, as its copy is made in the same memory."""
    let, begun_to_write, waited = threading.Event(), threading.Event(), []

    def hold() -> None:
        begun_to_write.set()
        assert let.wait(30)
        waited.append("written")

    callbacks = begun(saver, torch.nn.Linear(2, 1))
    use(hold)
    callbacks.on_epoch_end(0)
    assert begun_to_write.wait(30)
    assert waited == []  # the hook has returned, and the writer is at it
    threading.Timer(0.2, let.set).start()
    callbacks.on_epoch_end(1)
    assert waited == ["written"]
    callbacks.on_train_end()
