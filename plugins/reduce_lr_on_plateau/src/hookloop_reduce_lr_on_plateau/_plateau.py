"""When to lower the rate: epochs without improvement, and a rest after each time.

Knows nothing of a loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Plateau:
    """Counts how long a metric has not improved.

    The cooldown is that of ``torch.optim.lr_scheduler.ReduceLROnPlateau.step``: the ``cooldown``
    epochs after a reduction do not count, each of them. The patience is that of Keras: the
    reduction comes with the ``patience``-th bad epoch, one earlier than with torch's number.

    Attributes:
        wait: Bad epochs in a row, torch's ``num_bad_epochs``.
        cooldown_counter: Epochs that still do not count.
    """

    wait: int = 0
    cooldown_counter: int = 0

    def step(self, improved: bool, *, patience: int, cooldown: int) -> bool:
        """Take one epoch.

        Args:
            improved: Whether its value is the best so far.
            patience: Bad epochs after which to reduce; 0 is as 1.
            cooldown: Epochs after a reduction that do not count.

        Returns:
            Whether it is time to reduce.
        """
        self.wait = 0 if improved else self.wait + 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.wait < max(patience, 1):
            return False
        self.wait, self.cooldown_counter = 0, cooldown
        return True

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.wait = int(state["wait"])
        self.cooldown_counter = int(state["cooldown_counter"])


def reduced(rate: float, factor: float, floor: float) -> float | None:
    """Give the rate after one reduction, or None if it is at the floor already.

    Args:
        rate: The rate now.
        factor: What it is multiplied by.
        floor: What it does not fall below. A rate that is kept in single precision may stand a
            rounding error above it, and is at it all the same.
    """
    if rate <= floor * (1 + 1e-6):
        return None
    return max(rate * factor, floor)
