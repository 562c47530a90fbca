"""Whether a step waits for the GPU: torch itself says so. Only with ``--device cuda``.

``torch.cuda.set_sync_debug_mode("warn")`` warns at each operation that waits, here in the middle of
an epoch with the realistic callbacks.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

FIRST, LAST = 100, 200
#: A redraw of the bar, ten times a second, may look at the numbers.
BOUNDS = {"steps in a hundred that wait, no callbacks": 0, "steps in a hundred that wait": 3}


def measure(*, quick: bool = False) -> dict[str, float]:
    """Count the steps of a hundred that wait, by the names of `BOUNDS`."""
    from contestants import realistic

    with tempfile.TemporaryDirectory(prefix="hookloop-bench-") as folder:
        found = [_waits([]), _waits(realistic(Path(folder)))]
    return dict(zip(BOUNDS, map(float, found), strict=True))


def _waits(callbacks: list[object]) -> int:
    import torch
    from contestants import Batches, fit

    batches = Batches(LAST + 50, window=50)
    modes = {FIRST: "warn", LAST: "default"}

    def at_window(number: int) -> None:
        if number in modes:
            torch.cuda.set_sync_debug_mode(modes[number])

    batches.at_window = at_window
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(batches, callbacks)
    return sum("synchroniz" in str(one.message).lower() for one in caught)
