"""Where a run stands on the axes of its curves. Knows nothing of a loop."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class Progress:
    """The counts that go on over restarts, and over several runs with one callback.

    Attributes:
        batches: Training batches done: the axis of ``batch_*``.
        steps: Optimizer steps done: the axis of ``evaluation_*_vs_iterations``.
        epoch: Where the current epoch stands on the axis of ``epoch_*``.
        epochs: Where the next one may stand at the earliest.
        earlier_steps: Optimizer steps of earlier runs.
        earlier_epochs: What to add to the index of an epoch.
        gradients: The last epoch of which gradients were taken.
        described: Whether the configuration has been written.
        drawn: Whether the graph has been, or cannot be.
    """

    batches: int = 0
    steps: int = 0
    epoch: int = 0
    epochs: int = 0
    earlier_steps: int = 0
    earlier_epochs: int = 0
    gradients: int = -1
    described: bool = False
    drawn: bool = False

    def begin_run(self) -> None:
        """Begin another run; if it is a restored one, its own counts replace these."""
        self.earlier_steps = self.steps
        self.described = False

    def place(self, epoch: int) -> None:
        """Place an epoch after all that have been ended."""
        self.earlier_epochs = max(self.earlier_epochs, self.epochs - epoch)
        self.epoch = epoch + self.earlier_epochs

    def end_batch(self, step: int) -> None:
        """Count a batch, after which the run has done so many optimizer steps."""
        self.batches += 1
        self.steps = step + self.earlier_steps


class Pace:
    """How many batches are trained in a second, since an epoch began and since it was last asked.

    Attributes:
        epoch: Of the epoch, without its validation; None while it is trained.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin an epoch."""
        self._began = self._asked = time.perf_counter()
        self._batches = self._before = 0
        self.epoch: float | None = None

    def count(self) -> None:
        """Count a batch."""
        self._batches += 1

    def end(self) -> float:
        """End the training of the epoch, if that has not happened yet, and give its pace."""
        if self.epoch is None:
            self.epoch = self._batches / (time.perf_counter() - self._began)
        return self.epoch

    def recent(self) -> float:
        """Give the pace since this was last called."""
        now = time.perf_counter()
        pace = (self._batches - self._before) / (now - self._asked)
        self._before, self._asked = self._batches, now
        return pace
