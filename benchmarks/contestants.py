"""What is compared: one model, one optimizer, the same batches; the loop differs."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

import hookloop

REALISTIC = (
    "early_stopping",
    "model_checkpoint",
    "csv_logger",
    "reduce_lr_on_plateau",
    "terminate_on_nan",
    "progbar_logger",
)


class Batches:
    """Ready-made batches; notes the time at every so many of them, and can be cut short.

    Args:
        count: Batches an epoch.
        window: Batches between two notes.
    """

    def __init__(self, count: int, window: int = 50) -> None:
        generator = torch.Generator().manual_seed(0)
        self._batches = [
            (torch.randn(32, 16, generator=generator), torch.randn(32, 1, generator=generator))
            for _ in range(64)
        ]
        self.count, self.window = count, window
        self.windows: list[float] = []
        self.at_window: Callable[[int], None] | None = None

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        batches, window = self._batches, self.window
        began = time.perf_counter()
        for index in range(self.count):
            if index and not index % window:
                now = time.perf_counter()
                self.windows.append((now - began) / window)
                if self.at_window is not None:
                    self.at_window(index)
                began = time.perf_counter()
            yield batches[index % 64]


class Terminal(io.StringIO):
    """Somewhere to draw a progress bar that thinks it is looked at."""

    def isatty(self) -> bool:
        return True


class Nothing(hookloop.Callback):
    """Implements both batch hooks, and does nothing in them."""

    def on_train_batch_begin(self, batch, logs=None):  # type: ignore[no-untyped-def]
        pass

    def on_train_batch_end(self, batch, logs=None):  # type: ignore[no-untyped-def]
        pass


def tiny() -> tuple[nn.Module, torch.optim.Optimizer]:
    """Linear 16-32, ReLU, Linear 32-1, with Adam as its defaults make it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    return model, torch.optim.Adam(model.parameters())


def bare(batches: Batches) -> float:
    """The loop that people write by hand, with the mean loss that they report."""
    model, optimizer = tiny()
    loss_of = nn.functional.mse_loss
    total, samples = 0.0, 0
    model.train()
    for x, y in batches:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
        samples += len(x)
    return total / samples


def fit(batches: Batches, callbacks: list[object]) -> float:
    model, optimizer = tiny()
    trainer = hookloop.Trainer(model, loss="mse", optimizer=optimizer)
    history = trainer.fit(batches, callbacks=callbacks, verbose=0)
    return float(history.history["loss"][0])


def realistic(folder: Path) -> list[object]:
    """The callbacks of an ordinary run, as many of them as are installed."""
    settings: dict[str, dict[str, object]] = {
        "early_stopping": {"monitor": "loss", "patience": 3},
        "model_checkpoint": {"filepath": str(folder / "model.{epoch}.pt"), "keep_last": 2},
        "csv_logger": {"filename": str(folder / "log.csv")},
        "reduce_lr_on_plateau": {"monitor": "loss"},
        "progbar_logger": {"file": Terminal()},
    }
    installed = hookloop.available()
    return [
        hookloop.load(name, **settings.get(name, {})) for name in REALISTIC if name in installed
    ]


def contestants() -> dict[str, Callable[[Batches], float]]:
    """Everybody who is compared, by name; the first is what the others are measured against."""
    folder = Path(tempfile.mkdtemp(prefix="hookloop-bench-"))
    return {
        "bare loop": bare,
        "fit": lambda batches: fit(batches, []),
        "fit, 5 no-op callbacks": lambda batches: fit(batches, [Nothing() for _ in range(5)]),
        "fit, 50 no-op callbacks": lambda batches: fit(batches, [Nothing() for _ in range(50)]),
        "fit, realistic callbacks": lambda batches: fit(batches, realistic(folder)),
    }
