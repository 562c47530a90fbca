"""Everybody who is compared, and what each can do."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs import Job

#: The module of each; the first is what the others are measured by.
TRAINERS = {
    "by hand": "by_hand",
    "hookloop": "in_hookloop",
    "Ignite": "in_ignite",
    "skorch": "in_skorch",
    "Accelerate": "in_accelerate",
    "Lightning": "in_lightning",
    "transformers": "in_transformers",
    "Keras": "in_keras",
}
#: What somebody does not have: a loop by hand has no callbacks.
LACKING = {("by hand", "nothing"), ("by hand", "realistic"), ("Accelerate", "nothing")}


def able(callbacks: str) -> list[str]:
    """Tell who can be given such callbacks."""
    return [name for name in TRAINERS if (name, callbacks) not in LACKING]


def train_of(name: str) -> Callable[[Job], Any]:
    """Import what trains with somebody."""
    found: Callable[[Job], Any] = importlib.import_module(TRAINERS[name]).train
    return found


def windows(name: str, *, callbacks: str, **job: Any) -> list[float]:
    """Train once, in a folder of its own; give the seconds of a step, a number each window."""
    with tempfile.TemporaryDirectory(prefix="hookloop-bench-") as folder:
        made = Job(callbacks=callbacks, folder=Path(folder), **job)
        train_of(name)(made)
    return made.batches.windows
