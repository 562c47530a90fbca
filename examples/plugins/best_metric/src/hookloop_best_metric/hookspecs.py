"""The hook that best_metric brings. Other plugins implement it with ``optionalhook=True``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hookloop import hookspec

if TYPE_CHECKING:
    from hookloop import Loop


@hookspec
def on_new_best(loop: Loop, monitor: str, value: float) -> None:
    """A metric is better than it ever was in this run.

    When: in ``on_epoch_end``, at the place of best_metric in the list of callbacks; before
    ``on_epoch_checkpoint``.

    How often: once an epoch at most; gradient accumulation does not matter here.

    Args:
        loop: The running loop; ``loop.epoch`` is the epoch that was the best.
        monitor: Name of the metric.
        value: What it was, in the metric's unit.

    Raises: An exception here is one of best_metric's ``on_epoch_end``.
    """
