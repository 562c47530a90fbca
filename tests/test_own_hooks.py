"""A hook that one package brings and another implements, neither of which knows the other."""

from __future__ import annotations

import ast
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import Callback, CallbackList, Trainer, hookimpl

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "model_checkpoint": ROOT / "plugins/model_checkpoint/src",
    "checkpoint_copier": ROOT / "examples/plugins/checkpoint_copier/src",
}


def train(*callbacks: Any, epochs: int = 3) -> None:
    x = torch.linspace(-1, 1, 16).reshape(-1, 1)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1", seed=0)
    trainer.fit((x, 3 * x), epochs=epochs, callbacks=list(callbacks), verbose=0)


class Hears(Callback):
    """Looks at every file at the moment of which it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, list[str], bool]] = []

    @hookimpl(optionalhook=True)
    def on_checkpoint_saved(self, path: str, logs: Any) -> None:
        torch.load(path, weights_only=True)  # whole, or this raises
        here = threading.current_thread() is threading.main_thread()
        self.heard.append((Path(path).name, sorted(logs), here))


@pytest.mark.parametrize("background", [True, False])
def test_every_checkpoint_is_copied(background: bool, tmp_path: Path) -> None:
    """Byte for byte, and also those that model_checkpoint has deleted since."""
    saver = {"filepath": f"{tmp_path}/own/{{epoch}}.pt", "keep_last": 1, "async_save": background}
    train({"model_checkpoint": saver}, ("checkpoint_copier", {"folder": tmp_path / "copies"}))

    copies = sorted(path.name for path in (tmp_path / "copies").iterdir())
    assert copies == ["1.pt", "2.pt", "3.pt"]
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["3.pt"]
    newest = [(tmp_path / of / "3.pt").read_bytes() for of in ("own", "copies")]
    assert newest[0] == newest[1]
    assert torch.load(tmp_path / "copies/1.pt", weights_only=True)["loop"]["step"] == 1


@pytest.mark.parametrize("background", [True, False])
def test_the_hook_is_fired_on_the_training_thread_once_the_file_is_whole(
    background: bool, tmp_path: Path
) -> None:
    """Once a file, in order, the last one before the end of the run, with the logs of its epoch."""
    saver = {"filepath": f"{tmp_path}/{{epoch}}.pt", "async_save": background}
    hears = Hears()
    train({"model_checkpoint": saver}, hears)

    assert hears.heard == [(f"{epoch}.pt", ["loss"], True) for epoch in (1, 2, 3)]


def test_without_model_checkpoint_the_copier_does_nothing(tmp_path: Path) -> None:
    """The hook that it implements is one that nobody brings."""
    train(("checkpoint_copier", {"folder": tmp_path / "copies"}))

    assert list(tmp_path.iterdir()) == []


def test_without_a_copier_model_checkpoint_saves(tmp_path: Path) -> None:
    """The hook that it fires is one that nobody implements."""
    train({"model_checkpoint": {"filepath": tmp_path / "one.pt"}})

    assert [path.name for path in tmp_path.iterdir()] == ["one.pt"]


def test_in_a_loop_of_ones_own_they_work_the_same(tmp_path: Path) -> None:
    """The hook belongs to the callbacks, not to a host."""
    saver = {"filepath": tmp_path / "own.weights.pt"}
    copier = ("checkpoint_copier", {"folder": tmp_path / "copies"})
    hooks = CallbackList([copier, {"model_checkpoint": saver}], model=torch.nn.Linear(1, 1))
    hooks.on_train_begin()
    hooks.on_epoch_end(0, {"loss": 1.0})
    hooks.on_train_end()

    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["own.weights.pt"]


def test_the_two_packages_do_not_know_each_other() -> None:
    """Neither imports the other; what they share is the name of a hook."""
    for package, other in (tuple(PACKAGES), tuple(reversed(PACKAGES))):
        for path in PACKAGES[package].rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [
                    alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")
                ]
                names.append(getattr(node, "module", None) or "")
                assert not any(name.startswith(f"hookloop_{other}") for name in names)
