"""CheckpointCopier with a saver of the tests: which files are there in the end, and what is said."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hookloop import Callback, CallbackList, files, hookspec, load
from hookloop.errors import SettingError


class Specs:
    """What any saver brings that wants its files to be noticed."""

    @hookspec
    def on_checkpoint_saved(self, loop: Any, path: str, logs: Any) -> None:
        """A file is on disk."""


class Saver(Callback):
    """Saves a file after every epoch, and keeps only the newest, as savers do: by the writer."""

    hookspecs = Specs

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path: Path | None = None

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        older, self.path = self.path, self.folder / f"{epoch}.pt"
        files.atomic_write(self.path, f"epoch {epoch}".encode())
        if older is not None:
            files.background(lambda: files.delete(older)).result()
        self.loop.call("on_checkpoint_saved", path=str(self.path), logs=logs)


def run(callbacks: list[Any], epochs: int = 3) -> None:
    hooks = CallbackList(callbacks, model=None)
    hooks.on_train_begin()
    for epoch in range(epochs):
        hooks.on_epoch_end(epoch, {"loss": 1.0})
    hooks.on_train_end()


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_every_checkpoint_has_a_copy_when_the_run_is_over(tmp_path: Path) -> None:
    """Also those that the saver has deleted since."""
    copier = load("checkpoint_copier", folder=tmp_path / "copies")
    run([Saver(tmp_path / "own"), copier])

    assert contents(tmp_path / "own") == {"2.pt": "epoch 2"}
    assert contents(tmp_path / "copies") == {
        "0.pt": "epoch 0",
        "1.pt": "epoch 1",
        "2.pt": "epoch 2",
    }


def test_the_place_in_the_list_does_not_matter(tmp_path: Path) -> None:
    """It waits for what was saved at the very end, wherever it stands."""

    class AtTheEnd(Saver):
        def on_epoch_end(self) -> None:
            pass

        def on_train_end(self) -> None:
            super().on_epoch_end(7, {})

    run([load("checkpoint_copier", folder=tmp_path / "copies"), AtTheEnd(tmp_path / "own")])

    assert contents(tmp_path / "copies") == {"7.pt": "epoch 7"}


def test_training_does_not_wait_for_a_copy(tmp_path: Path) -> None:
    """A copy that hangs behind other writing holds up nobody before the end of the run."""
    go_on = threading.Event()
    behind = files.background(lambda: go_on.wait(30))

    class Free(Callback):
        def on_train_end(self) -> None:
            assert not (tmp_path / "copies").exists()
            go_on.set()

    class Once(Saver):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            if epoch == 0:
                super().on_epoch_end(epoch, logs)

    copier = load("checkpoint_copier", folder=tmp_path / "copies")
    run([Once(tmp_path / "own"), Free(), copier])

    assert behind.result()
    assert contents(tmp_path / "copies") == {"0.pt": "epoch 0"}


def test_without_a_saver_it_does_nothing(tmp_path: Path) -> None:
    """It runs where nobody brings the hook that it waits for."""
    run([load("checkpoint_copier", folder=tmp_path / "copies")])

    assert not (tmp_path / "copies").exists()


def test_a_copy_that_fails_is_a_warning_and_training_goes_on(tmp_path: Path) -> None:
    """It only observes; the checkpoint itself is where it was."""
    (tmp_path / "copies").write_text("a file, where the folder would be")
    copier = load("checkpoint_copier", folder=tmp_path / "copies")
    with pytest.warns(RuntimeWarning, match="checkpoint_copier failed in on_"):
        trained([Saver(tmp_path / "own"), copier])

    assert contents(tmp_path / "own") == {"2.pt": "epoch 2"}


def trained(callbacks: list[Any]) -> None:
    """Train with the Trainer, which turns an observer that fails off."""
    import torch
    from hookloop import Trainer

    x = torch.ones(4, 1)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1")
    trainer.fit((x, x), epochs=3, callbacks=callbacks, verbose=0)


def test_a_folder_without_a_name_is_refused() -> None:
    """Before any training, with what to write instead."""
    with pytest.raises(SettingError, match="fix: folder='backup'"):
        load("checkpoint_copier", folder="")
