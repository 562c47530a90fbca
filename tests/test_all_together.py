"""Every callback of the Keras family in one run: whoever only observes changes nothing of it."""

from __future__ import annotations

import csv
import re
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import hookloop
from hookloop import Trainer

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 12
SAVERS = {"model_checkpoint", "backup_and_restore"}

#: What a run ends with: the bytes of each weight, and the history.
Result = tuple[dict[str, bytes], dict[str, list[float]]]


def dead_server() -> str:
    """Give an address at which nobody listens any more."""
    with socket.socket() as once:
        once.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{once.getsockname()[1]}"


def every_callback() -> dict[str, dict[str, Any]]:
    """Settings by name under which each callback has something to do; files in the folder."""
    return {
        "terminate_on_nan": {"metrics": ["mae", "val_loss"]},
        "learning_rate_scheduler": {"schedule": lambda epoch, lr: 0.9 * lr},
        "swap_ema_weights": {"decay": 0.8, "swap_on_epoch": True, "for_checkpoints": True},
        "reduce_lr_on_plateau": {"patience": 1, "factor": 0.5, "min_delta": 0.2},
        "early_stopping": {"patience": 3, "min_delta": 0.02, "restore_best_weights": True},
        "model_checkpoint": {"filepath": "best/{epoch:02d}-{val_loss:.2f}.pt", "keep_best": 2},
        "backup_and_restore": {"backup_dir": "backup", "save_freq": 2, "delete_checkpoint": False},
        "lambda_callback": {"on_train_batch_end": lambda loop, logs: loop.log(b=logs["loss"] ** 2)},
        "csv_logger": {"filename": "log.csv"},
        "tensorboard": {
            "log_dir": "logs",
            "histogram_freq": 1,
            "write_grads": True,
            "write_images": True,
            "write_steps_per_second": True,
            "update_freq": 1,
            "embeddings_freq": 1,
        },
        "remote_monitor": {
            "root": dead_server(),
            "flush_timeout": 0.01,
            "backoff": (0.01, 0.1),
            "batches": True,
        },
        "progbar_logger": {},
    }


class Words(nn.Module):
    """What is easily disturbed: random numbers of dropout, and statistics of a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.norm(self.words(x).mean(1))))


def train(folder: Path, monkeypatch: Any, names: list[str]) -> Result:
    """Train with the callbacks of these names, in this order, in a folder of their own."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    settings = every_callback()
    random = np.random.default_rng(4)
    x = random.integers(0, 9, (60, 5))
    y = np.sin(x.sum(1, keepdims=True)).astype("float32")
    torch.manual_seed(0)
    trainer = Trainer(
        Words(), loss="mse", optimizer="adam:lr=0.05", metrics=["mae"], device="cpu", seed=3
    )
    history = trainer.fit(
        (x, y),
        epochs=EPOCHS,
        batch_size=10,
        validation_split=0.25,
        callbacks=[(name, settings[name]) for name in names],
        verbose=1 if "progbar_logger" in names else 0,
    )
    weights = {name: one.numpy().tobytes() for name, one in trainer.module.state_dict().items()}
    return weights, history.history


def observes(name: str) -> bool:
    return bool(hookloop.load(name, **every_callback()[name]).observer)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """A function that trains, in a new folder for each call."""
    count = iter(range(9))
    return lambda names: train(tmp_path / str(next(count)), monkeypatch, list(names))


def test_none_of_the_family_is_left_out() -> None:
    """What hookloop[keras] installs is what these tests put together."""
    extras = tomllib.loads((ROOT / "core" / "pyproject.toml").read_text(encoding="utf-8"))
    (family,) = extras["project"]["optional-dependencies"]["keras"]
    names = re.findall(r"[\w-]+", family)[1:]
    assert sorted(name.replace("-", "_") for name in names) == sorted(every_callback())


def test_those_that_observe_are_known() -> None:
    """The runs below are compared with runs without these."""
    found = [name for name in every_callback() if observes(name)]
    assert found == ["csv_logger", "tensorboard", "remote_monitor", "progbar_logger"]


@pytest.mark.filterwarnings("ignore:remote_monitor:RuntimeWarning")
@pytest.mark.parametrize("order", [list, lambda names: list(reversed(names))], ids=["list", "rev"])
def test_all_together_train_as_without_those_that_observe(
    run: Callable[..., Result], order: Callable[..., list[str]]
) -> None:
    """The same weights and history, bit for bit; and again without those that save."""
    names = order(every_callback())
    whole = run(names)
    assert 3 < len(whole[1]["loss"]) < EPOCHS  # stopped early, and so decided by all of them
    assert run(names) == whole
    assert run(name for name in names if not observes(name)) == whole
    assert run(name for name in names if not observes(name) and name not in SAVERS) == whole


@pytest.mark.filterwarnings("ignore:remote_monitor:RuntimeWarning")
def test_the_order_of_the_list_makes_no_difference(run: Callable[..., Result]) -> None:
    """Who produces comes before who decides, and who decides before who saves, in either order."""
    names = list(every_callback())
    assert run(names) == run(reversed(names))


@pytest.mark.filterwarnings("ignore:remote_monitor:RuntimeWarning")
def test_all_together_each_does_its_part(
    run: Callable[..., Result], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every one of them leaves what it would have left alone."""
    _, history = run(every_callback())
    epochs = len(history["loss"])
    assert len(history["b"]) == len(history["lr"]) == len(history["val_mae"]) == epochs
    assert history["lr"][1] == pytest.approx(0.9**2 * 0.05)  # by the schedule, at each beginning
    assert history["lr"][-1] < 0.9**epochs * 0.05  # and by the plateau, at some ends
    with open("log.csv", newline="") as file:
        rows = [float(row["val_loss"]) for row in csv.DictReader(file)]
    assert rows == history["val_loss"]
    curves = EventAccumulator("logs/validation").Reload().Scalars("epoch_loss")
    assert [one.value for one in curves] == [np.float32(value) for value in history["val_loss"]]
    assert len(list(Path("best").glob("*.pt"))) == len(list(Path("backup").glob("state-*"))) == 2
    assert f"Epoch {epochs}/{EPOCHS}" in capsys.readouterr().out
