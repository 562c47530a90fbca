"""A stop by NaN is no success: nothing of it becomes best or last, and nothing is cleaned up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import policy
import pytest
import torch
from torch import nn

from hookloop import Callback, Trainer, load_weights
from hookloop.checkpoints import load_state

X, Y = policy.arrays("training")
BATCHES = 4  # of an epoch


class Spoils(Callback):
    """Makes the loss of one batch what it is told to."""

    changes = ("model",)

    def __init__(self, epoch: int, batch: int, value: float) -> None:
        self.at, self.value = (epoch, batch), value

    def on_train_batch_begin(self, batch: int) -> None:
        if (self.loop.epoch, batch) == self.at:
            with torch.no_grad():
                self.model.bias.fill_(self.value)


def fit(folder: Path, *callbacks: Any, epochs: int = 5) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(nn.Linear(8, 1), loss="mse", optimizer="sgd:lr=0.05", seed=1, device="cpu")
    best = {"filepath": folder / "best.pt", "save_best_only": True}
    chosen = [
        *callbacks,
        ("model_checkpoint", best),
        ("model_checkpoint", {"filepath": folder / "last-{epoch}.pt", "keep_last": 2}),
        ("model_checkpoint", {"filepath": folder / "every.pt", "save_freq": 1}),
        ("backup_and_restore", {"backup_dir": folder / "backup", "save_freq": 3}),
        "early_stopping:patience=2",
        "reduce_lr_on_plateau:patience=1",
    ]
    arguments = {"validation_data": policy.arrays("validation"), "verbose": 0}
    trainer.fit((X, Y), batch_size=8, epochs=epochs, callbacks=chosen, **arguments)
    return trainer


def finite(path: Path) -> bool:
    model = nn.Linear(8, 1)
    load_weights(model, path)
    return all(bool(one.isfinite().all()) for one in model.parameters())


@pytest.mark.reliability("G4")
@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["nan", "inf"])
@pytest.mark.parametrize("batch", [0, 2, 3])
def test_a_run_that_nan_stops_keeps_what_was_good(value: float, batch: int, tmp_path: Path) -> None:
    """It stops in that batch; best, last and backup are those of before, and stay."""
    trainer = fit(tmp_path, "terminate_on_nan", Spoils(2, batch, value))
    history = trainer.history
    assert (history.outcome, history.epoch) == ("failed", [0, 1])
    assert history.stop_reason.startswith(f"terminate_on_nan: loss is {value} in epoch 2, batch")
    names = sorted(path.name for path in tmp_path.glob("*.pt"))
    assert names == ["best.pt", "every.pt", "last-1.pt", "last-2.pt"]
    assert all(finite(tmp_path / name) for name in names)
    states = sorted((tmp_path / "backup").glob("state-*"))
    places = [load_state(path)["loop"] for path in states]
    steps = [place["step"] for place in places]
    assert steps == list(range(3, 2 * BATCHES + batch + 1, 3))[-2:]
    assert all(finite(path) for path in states)
    assert load_state(tmp_path / "every.pt")["loop"]["step"] == 2 * BATCHES + batch


@pytest.mark.reliability("G4")
def test_what_was_stopped_by_nan_can_go_on_from_before(tmp_path: Path) -> None:
    """As the run that never was spoilt, bit for bit."""
    fit(tmp_path / "one", "terminate_on_nan", Spoils(2, 2, float("nan")))
    again = fit(tmp_path / "one", "terminate_on_nan", epochs=4)
    whole = fit(tmp_path / "two", "terminate_on_nan", epochs=4)
    assert again.history.outcome == whole.history.outcome == "finished"
    assert again.history.history == whole.history.history
    assert torch.equal(policy.vector(again.module), policy.vector(whole.module))


@pytest.mark.reliability("G4")
def test_a_failure_cleans_nothing_up(tmp_path: Path) -> None:
    """The backup stays, with the best file and the last ones."""

    class Breaks(Callback):
        def on_epoch_begin(self, epoch: int) -> None:
            if epoch == 2:
                raise RuntimeError("no power")

    with pytest.raises(RuntimeError, match="no power"):
        fit(tmp_path, Breaks())
    assert len(list((tmp_path / "backup").glob("state-*"))) == 2
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == [
        "best.pt",
        "every.pt",
        "last-1.pt",
        "last-2.pt",
    ]


class Reports(Callback):
    """Reports one value an epoch."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def on_test_end(self, logs: Any) -> None:
        logs["score"] = self.values[self.loop.epoch or 0]


@pytest.mark.reliability("G5")
@pytest.mark.filterwarnings("ignore:.*Nothing is known to report 'val_score':UserWarning")
@pytest.mark.parametrize("mode", ["min", "max"])
def test_nan_is_never_better(mode: str, tmp_path: Path) -> None:
    """Not for the best file, nor for stopping early, nor for the rate; whichever way is up."""
    nan = float("nan")
    about = f"monitor=val_score,mode={mode}"
    best = {"filepath": tmp_path / "best-{epoch}.pt", "monitor": "val_score", "mode": mode}
    trainer = Trainer(nn.Linear(8, 1), loss="mse", optimizer="sgd:lr=0.5", seed=1, device="cpu")
    history = trainer.fit(
        (X, Y),
        epochs=9,
        validation_data=policy.arrays("validation"),
        callbacks=[
            Reports([nan, 1.0, nan, nan, nan, 1.0, 1.0, 1.0, 1.0]),
            ("model_checkpoint", {**best, "save_best_only": True}),
            f"early_stopping:{about},patience=3",
            f"reduce_lr_on_plateau:{about},patience=2,factor=0.1",
        ],
        verbose=0,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["best-2.pt"]
    assert history.epoch == [0, 1, 2, 3, 4]
    assert history.outcome == "stopped"
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
