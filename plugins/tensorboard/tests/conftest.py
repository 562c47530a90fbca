"""Reading event files back with TensorBoard's own reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.fixture
def read() -> Callable[[Path], EventAccumulator]:
    """Reads all events of a run, none left out, expired ones dropped as TensorBoard does."""

    def read(folder: Path) -> EventAccumulator:
        everything = dict.fromkeys(("scalars", "histograms", "images", "tensors"), 0)
        accumulator = EventAccumulator(str(folder), everything)
        accumulator.Reload()
        return accumulator

    return read


@pytest.fixture
def curve(read: Callable[[Path], EventAccumulator]) -> Callable[[Path, str], list]:
    """Reads one curve as pairs of step and value."""

    def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
        return [(event.step, event.value) for event in read(folder).Scalars(tag)]

    return curve
