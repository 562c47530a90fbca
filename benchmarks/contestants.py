"""What is compared: one model, one optimizer, the same batches; the loop differs."""

from __future__ import annotations

import csv
import io
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch
from harness import now
from torch import nn

import hookloop

#: Where models and data are; ``benchmarks/bench.py --device cuda`` says it so.
DEVICE = os.environ.get("HOOKLOOP_BENCH_DEVICE", "cpu")
REALISTIC = (
    "early_stopping",
    "model_checkpoint",
    "csv_logger",
    "reduce_lr_on_plateau",
    "terminate_on_nan",
    "progbar_logger",
)


#: Reading is what people write; on an accelerator those who know better add up there.
READ = torch.Tensor.item if DEVICE == "cpu" else torch.Tensor.detach


class Batches:
    """Ready-made batches; notes the time at every so many of them, over all epochs.

    Args:
        count: Batches an epoch.
        window: Batches between two notes.

    Attributes:
        windows: Seconds a step, of each window.
        at_window: What to call at each window, with the number of steps so far.
    """

    def __init__(self, count: int, window: int = 50) -> None:
        generator = torch.Generator().manual_seed(0)
        self._batches = [
            (
                torch.randn(32, 16, generator=generator).to(DEVICE),
                torch.randn(32, 1, generator=generator).to(DEVICE),
            )
            for _ in range(64)
        ]
        self.count, self.window = count, window
        self.windows: list[float] = []
        self.at_window: Callable[[int], None] | None = None
        self._made, self._began = 0, 0.0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        batches, window, made = self._batches, self.window, self._made
        self._made += self.count
        for number in range(made, self._made):
            if not number % window:
                self._note(number)
            yield batches[number % 64]

    def _note(self, number: int) -> None:
        if DEVICE.startswith("cuda"):
            torch.cuda.synchronize()
        if number:
            self.windows.append((now() - self._began) / self.window)
        if self.at_window is not None:
            self.at_window(number)
        self._began = now()


class Terminal(io.StringIO):
    """Somewhere to draw a progress bar that thinks it is looked at; keeps nothing."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)


class Nothing(hookloop.Callback):
    """Implements both batch hooks, and does nothing in them."""

    def on_train_batch_begin(self, batch, logs=None):  # type: ignore[no-untyped-def]
        pass

    def on_train_batch_end(self, batch, logs=None):  # type: ignore[no-untyped-def]
        pass


def net() -> nn.Module:
    """Linear 16-32, ReLU, Linear 32-1, always with the same weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1)).to(DEVICE)


def bare(batches: Batches, epochs: int = 1) -> list[float]:
    """The loop that people write by hand, with the mean loss of each epoch that they report."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    loss_of = nn.functional.mse_loss
    means = []
    for _ in range(epochs):
        total, samples = 0.0, 0
        model.train()
        for x, y in batches:
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            optimizer.step()
            total += READ(loss) * len(x)
            samples += len(x)
        means.append(float(total) / samples)
    return means


def bare_realistic(folder: Path, batches: Batches, epochs: int = 1) -> list[float]:
    """The same with what the realistic callbacks do and promise, written into the loop.

    Like theirs, a checkpoint holds all from which a run goes on as if nothing had been.
    """
    model, screen = net(), Terminal()
    optimizer = torch.optim.Adam(model.parameters())
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    loss_of = nn.functional.mse_loss
    means: list[float] = []
    best, drawn = math.inf, 0.0
    with (folder / "by_hand.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        for epoch in range(epochs):
            total, samples = 0.0, 0
            model.train()
            for index, (x, y) in enumerate(batches):
                optimizer.zero_grad()
                loss = loss_of(model(x), y)
                loss.backward()
                value = loss.item()
                if not math.isfinite(value):
                    return means
                optimizer.step()
                total += value * len(x)
                samples += len(x)
                if time.monotonic() - drawn > 0.1:
                    drawn = time.monotonic()
                    screen.write(f"\r{epoch}: {index}/{len(batches)} loss {total / samples:.4f}")
            means.append(total / samples)
            rows.writerow([epoch, means[-1]])
            file.flush()
            plateau.step(means[-1])
            best = min(best, means[-1])
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "plateau": plateau.state_dict(),
                "rng": [random.getstate(), numpy.random.get_state(), torch.get_rng_state()],
                "epoch": epoch,
                "means": means,
                "best": best,
            }
            _save(state, folder / f"by_hand.{epoch % 2}.pt")
    return means


def _save(state: Any, path: Path) -> None:
    """Save so that there is a whole file after a loss of power, as model_checkpoint does."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    entries = os.open(path.parent, os.O_RDONLY)
    os.fsync(entries)
    os.close(entries)


def fit(
    batches: Batches,
    callbacks: list[Any],
    epochs: int = 1,
    optimizer: Callable[..., Any] | str = torch.optim.Adam,
) -> list[float]:
    """Train with hookloop, with the bare loop's own optimizer unless the trainer is to choose."""
    model = net()
    trainer = hookloop.Trainer(model, device=DEVICE, loss="mse", optimizer=optimizer)
    history = trainer.fit(batches, epochs=epochs, callbacks=callbacks, verbose=0)
    return [float(value) for value in history.history["loss"]]


def realistic(folder: Path) -> list[Any]:
    """The callbacks of an ordinary run."""
    settings: dict[str, dict[str, Any]] = {
        "early_stopping": {"monitor": "loss", "patience": 10_000},
        "model_checkpoint": {"filepath": str(folder / "model.{epoch}.pt"), "keep_last": 2},
        "csv_logger": {"filename": str(folder / "log.csv")},
        "reduce_lr_on_plateau": {"monitor": "loss"},
        "progbar_logger": {"file": Terminal()},
    }
    return [hookloop.load(name, **settings.get(name, {})) for name in REALISTIC]


#: What trains over batches for some epochs, by name.
Contestants = dict[str, Callable[..., list[float]]]


def _fitting(made: Callable[[], list[Any]], **options: Any) -> Callable[..., list[float]]:
    """Make a contestant whose callbacks are made anew for each run."""
    return lambda batches, epochs=1: fit(batches, made(), epochs, **options)


def contestants() -> Contestants:
    """Everybody whose step is compared; the first is what the others are measured against."""
    return {
        "bare loop": bare,
        "fit": _fitting(list),
        "5 no-op callbacks": _fitting(lambda: [Nothing() for _ in range(5)]),
        "50 no-op callbacks": _fitting(lambda: [Nothing() for _ in range(50)]),
        "realistic callbacks": _fitting(partial(realistic, folder())),
        "optimizer by name": _fitting(list, optimizer="adam"),
    }


def with_the_same_by_hand() -> Contestants:
    """Those whose epochs are compared that have to do the same work at the end of each."""
    return {
        "realistic by hand": partial(bare_realistic, folder()),
        "realistic callbacks": _fitting(partial(realistic, folder())),
    }


def folder() -> Path:
    """Make a folder for what is written."""
    return Path(tempfile.mkdtemp(prefix="hookloop-bench-"))
