"""What every trainer is given to do: the same model, the same data, as many steps."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from harness import now
from torch import Tensor, nn

#: Inputs, hidden units, outputs, samples of a batch. "large" is "tiny" with numbers beside it that
#: are saved and not trained, so that a save is not lost in what a step takes.
SHAPES = {"tiny": (16, 32, 1, 32), "mid": (784, 512, 10, 128), "large": (16, 32, 1, 32)}
#: How many numbers: 100 MB.
BESIDE = 25_000_000


class Terminal(io.StringIO):
    """Somewhere to draw a progress bar that thinks it is looked at; keeps nothing."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)


@cache
def data(model: str, device: str) -> list[tuple[Tensor, Tensor]]:
    """Make the batches of a model, once a process."""
    inputs, _, outputs, size = SHAPES[model]
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(16):
        x = torch.randn(size, inputs, generator=generator)
        y = torch.randn(size, outputs, generator=generator)
        if model == "mid":
            y = torch.randint(outputs, (size,), generator=generator)
        found.append((x.to(device), y.to(device)))
    return found


class Batches:
    """Ready-made batches, which note the time at every so many of them, over all epochs.

    Args:
        job: What is to be done.

    Attributes:
        windows: Seconds a step, of each window but the first, in which things warm up.
        at: What to call when so many steps have been made.
        first: When the first step was over, or None.
    """

    def __init__(self, job: Job) -> None:
        self._data = data(job.model, job.device)
        self.count, self.window, self._cuda = job.steps, job.window, job.device.startswith("cuda")
        self.windows: list[float] = []
        self.at: dict[int, Callable[[], None]] = {}
        self.first: float | None = None
        self._made, self._began = 0, 0.0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches, window, at = self._data, self.window, self.at
        for index in range(self.count):
            made = self._made
            if not made % window:
                self._note(made)
            if made in at:
                at[made]()
            if made == 1:
                self.first = time.perf_counter()
            self._made = made + 1
            yield batches[index % 16]

    def _note(self, made: int) -> None:
        if self._cuda:
            torch.cuda.synchronize()
        if made > self.window:
            self.windows.append((now() - self._began) / self.window)
        self._began = now()


@dataclass
class Job:
    """What a trainer is to do.

    Attributes:
        model: A key of `SHAPES`.
        callbacks: ``off``: everything that can be left out is left out; ``nothing``: five
            callbacks at begin and end of every batch, that do nothing; ``realistic``: progress
            bar, CSV, early stopping, checkpoint an epoch, schedule, NaN guard; ``saving``: a
            checkpoint of model and optimizer an epoch.
        steps: An epoch.
        epochs: How many.
        window: Steps between two notes of the time.
        folder: Where it may write.
        device: Where model and data are.
        batches: The data, with the clock.
    """

    model: str
    callbacks: str
    steps: int
    epochs: int
    window: int
    folder: Path
    device: str = "cpu"
    batches: Batches = field(init=False)

    def __post_init__(self) -> None:
        self.batches = Batches(self)

    def net(self) -> nn.Sequential:
        """Make the model, always with the same numbers."""
        torch.manual_seed(0)
        inputs, hidden, outputs, _ = SHAPES[self.model]
        net = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
        if self.model == "large":
            net.register_buffer("beside", torch.zeros(BESIDE))
        return net.to(self.device)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss."""
        if self.model == "mid":
            return nn.functional.cross_entropy(outputs, targets)
        return nn.functional.mse_loss(outputs, targets)
