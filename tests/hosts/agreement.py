"""One training for every host: the same model, data and callbacks, and what has to come out.

A test of a host takes `model`, `batches` and `callbacks`, trains with them in its own way, and
hands what happened to `check`, which compares it with the same training written by hand.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, CallbackList, hookspecs, load_weights
from hookloop.capabilities import HOSTS

EPOCHS, BATCH, RATE = 10, 16, 0.1
TRAINING, VALIDATION, INPUTS = 160, 40, 8
#: Whose calls depend on a feature of the host; all others every host has.
HOOKS_OF = {
    "before_optimizer_step": ("on_before_optimizer_step",),
    "test_hooks": ("on_test_begin", "on_test_batch_begin", "on_test_batch_end", "on_test_end"),
    "batch_hooks": ("on_train_batch_begin", "on_train_batch_end", "on_batch_checkpoint"),
}


def model() -> nn.Module:
    """Make the model: Linear 8-16, Tanh, Linear 16-1, with weights that are always the same."""
    generator = torch.Generator().manual_seed(1)
    made = nn.Sequential(nn.Linear(INPUTS, 16), nn.Tanh(), nn.Linear(16, 1))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return made


def arrays(split: str) -> tuple[Tensor, Tensor]:
    """Give inputs of shape (samples, 8) and targets of shape (samples, 1), float32.

    With so much noise that validation gets worse from the fifth epoch on.
    """
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(TRAINING + VALIDATION, INPUTS, generator=generator)
    noise = torch.randn(TRAINING + VALIDATION, 1, generator=generator)
    y = x[:, :1] * x[:, 1:2] + 0.6 * noise
    rows = slice(0, TRAINING) if split == "training" else slice(TRAINING, None)
    return x[rows], y[rows]


def batches(split: str) -> DataLoader[Any]:
    """Give a loader of batches of 16, in a fixed order; the last one of validation has 8."""
    return DataLoader(TensorDataset(*arrays(split)), BATCH)


def shrink(epoch: int, rate: float) -> float:
    """Schedule the learning rate: from the one in force."""
    return rate * 0.9


def callbacks(folder: Path) -> tuple[list[Any], Recording]:
    """Choose the callbacks in the usual ways; the last one records."""
    recording = Recording()
    chosen = [
        "early_stopping:patience=2",
        {"reduce_lr_on_plateau": {"factor": 0.5, "patience": 1}},
        ("learning_rate_scheduler", {"schedule": shrink}),
        f"csv_logger:filename='{folder / 'log.csv'}'",
        ("model_checkpoint", {"filepath": folder / "best.weights.pt", "save_best_only": True}),
        "terminate_on_nan",
        recording,
    ]
    return chosen, recording


@dataclass
class Outcome:
    """What a host has made of the training.

    Attributes:
        transcript: Hooks in order, each with its index and the names in its logs.
        losses: Loss of each training batch.
        rates: Learning rate in force at each training batch.
        steps: Optimizer steps done at the end of each training batch.
        validations: ``val_loss`` of each epoch.
        reason: Why training was stopped.
        outcome: How it ended.
        table: Rows of the CSV file, as numbers.
        weights: Those of the model in the end, one vector.
        best: Those that were saved, one vector.
    """

    transcript: list[tuple[Any, ...]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    validations: list[float] = field(default_factory=list)
    reason: str | None = None
    outcome: str | None = None
    table: list[dict[str, float]] = field(default_factory=list)
    weights: Tensor = field(default_factory=lambda: torch.empty(0))
    best: Tensor = field(default_factory=lambda: torch.empty(0))


class Recording(Callback):
    """Notes every hook there is, and what it finds there."""

    def __init__(self) -> None:
        self.found = Outcome()

    def note(self, hook: str, arguments: dict[str, Any]) -> None:
        index = [arguments[key] for key in ("epoch", "batch") if key in arguments]
        logs = arguments.get("logs")
        keys = () if hook in ("on_train_end", "on_test_batch_end") else tuple(sorted(logs or ()))
        self.found.transcript.append((hook, *index, *([keys] if keys else [])))
        found = self.found
        if hook == "on_train_batch_begin":
            found.rates.append(self.loop.lr)
        elif hook == "on_train_batch_end":
            found.losses.append(logs["loss"])
            found.steps.append(self.loop.step)
        elif hook == "on_epoch_end":
            found.validations.append(logs["val_loss"])
        elif hook == "on_train_end":
            found.outcome, found.reason = self.loop.outcome, self.loop.stop_reason


def _noting(hook: str) -> Any:
    @hookspecs.hookimpl(trylast=True)
    def note(self: Recording, **arguments: Any) -> None:
        self.note(hook, arguments)

    return note


for _hook in hookspecs.names():
    if _hook != "on_message":
        setattr(Recording, _hook, _noting(_hook))


def outcome(recording: Recording, trained: nn.Module, folder: Path) -> Outcome:
    """Gather what happened: from the recording, the files, and the model."""
    found = recording.found
    with (folder / "log.csv").open(newline="") as file:
        found.table = [
            {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
        ]
    found.weights = _vector(trained)
    best = model()
    load_weights(best, folder / "best.weights.pt")
    found.best = _vector(best)
    return found


def _vector(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def by_hand(folder: Path) -> Outcome:
    """Train in a loop of plain torch that calls the hooks itself."""
    trained, chosen = model(), callbacks(folder)
    optimizer = torch.optim.SGD(trained.parameters(), lr=RATE)
    hooks = CallbackList(
        ["base_logger", *chosen[0]], model=trained, optimizer=optimizer, history=True
    )
    hooks.on_train_begin()
    for epoch in range(EPOCHS):
        hooks.on_epoch_begin(epoch)
        for index, (x, y) in enumerate(batches("training")):
            hooks.on_train_batch_begin(index, {"size": len(x)})
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(trained(x), y)
            loss.backward()
            hooks.on_before_optimizer_step(optimizer, {"loss": loss})
            optimizer.step()
            hooks.on_train_batch_end(index, {"loss": loss})
        hooks.on_test_begin()
        total = 0.0
        for index, (x, y) in enumerate(batches("validation")):
            hooks.on_test_batch_begin(index, {"size": len(x)})
            with torch.no_grad():
                loss = nn.functional.mse_loss(trained(x), y)
            hooks.on_test_batch_end(index, {"loss": loss})
            total += loss.item() * len(x)
        hooks.on_test_end({"loss": total / VALIDATION})
        hooks.on_epoch_end(epoch)
        if hooks.loop.stop_training:
            break
    hooks.on_train_end()
    return outcome(chosen[1], trained, folder)


def check(found: Outcome, reference: Outcome, host: str, tolerance: float = 0.0) -> None:
    """Compare a host's outcome with that by hand.

    Args:
        found: Of the host.
        reference: Of `by_hand`.
        host: Its row in the table of capabilities: what it does not grant is left out.
        tolerance: Largest difference relative to 1 of numbers that the framework computes by
            other operations than the loop by hand does.
    """
    lacking = {hook for f, hooks in HOOKS_OF.items() if f not in HOSTS[host] for hook in hooks}
    assert found.transcript == _without(reference.transcript, lacking)
    assert found.steps == reference.steps
    assert found.reason == reference.reason
    assert found.outcome == reference.outcome == "stopped"
    for name in ("losses", "rates", "validations"):
        _close(name, getattr(found, name), getattr(reference, name), tolerance)
    assert [list(row) for row in found.table] == [list(row) for row in reference.table]
    for index, (row, wanted) in enumerate(zip(found.table, reference.table, strict=True)):
        _close(f"row {index}", list(row.values()), list(wanted.values()), tolerance)
    _close("weights", found.weights.tolist(), reference.weights.tolist(), tolerance)
    _close("best", found.best.tolist(), reference.best.tolist(), tolerance)


def _without(transcript: Sequence[tuple[Any, ...]], hooks: set[str]) -> list[tuple[Any, ...]]:
    return [call for call in transcript if call[0] not in hooks]


def _close(what: str, found: list[float], wanted: list[float], tolerance: float) -> None:
    assert len(found) == len(wanted), what
    worst = max((abs(a - b) / max(1.0, abs(b)) for a, b in zip(found, wanted, strict=True)))
    assert worst <= tolerance, f"{what}: {worst} apart"
