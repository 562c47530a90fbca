"""Profiling a range of batches, into a trace that TensorBoard's profiler and Perfetto can show."""

from __future__ import annotations

import socket
import time
import warnings
from pathlib import Path
from typing import Any


class Profile:
    """A profile of some batches, by torch's profiler.

    Args:
        batches: First and last batch, counted from 1.
        folder: Where the trace goes.
    """

    def __init__(self, batches: tuple[int, int], folder: Path) -> None:
        self._first, self._last = batches
        self._folder = folder / f"{self._first}-{self._last}"
        self._profiler: Any = None

    def batch_begin(self, batch: int) -> None:
        if batch == self._first:
            import torch

            # To begin another would break that one.
            if torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
                raise RuntimeError("another profiler is at work")
            on = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                on.append(torch.profiler.ProfilerActivity.CUDA)
            self._profiler = torch.profiler.profile(activities=on)
            self._profiler.start()

    def batch_end(self, batch: int) -> None:
        if batch >= self._last:
            self.stop()

    def stop(self) -> None:
        """Write the trace, if a profile is under way."""
        profiler, self._profiler = self._profiler, None
        if profiler is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                profiler.stop()
            self._folder.mkdir(parents=True, exist_ok=True)
            name = f"{socket.gethostname()}.{time.time_ns()}.pt.trace.json"
            profiler.export_chrome_trace(str(self._folder / name))
