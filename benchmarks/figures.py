"""What is made of times: quiet-machine estimates, ratios within one run, orders of growth.

Knows nothing of what is measured. Other work on a machine only ever makes a window of steps
slower, so its 10th percentile says most about the program; the median stands beside it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


def quiet(times: Sequence[float]) -> float:
    """Give the 10th percentile, what the times would be on a quiet machine.

    Args:
        times: Of one contestant; a single one counts as it is.
    """
    if len(times) < 2:
        return times[0]
    return statistics.quantiles(times, n=10, method="inclusive")[0]


@dataclass(frozen=True)
class Ratio:
    """How long something took, as a multiple of something else in the same run.

    Attributes:
        quiet: Of the two 10th percentiles.
        median: Of the two medians.
    """

    quiet: float
    median: float


def ratios(times: Mapping[str, Sequence[float]], base: str) -> dict[str, Ratio]:
    """Compare everybody with one of them.

    Args:
        times: Seconds, by contestant.
        base: With whom.
    """
    low, middle = quiet(times[base]), statistics.median(times[base])
    return {
        name: Ratio(quiet(some) / low, statistics.median(some) / middle)
        for name, some in times.items()
    }


def order(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Fit the order of growth: k where the costs go with ``size ** k``.

    It is the slope of the straight line through the logarithms, by least squares: 0 for a cost
    that stays what it is, 1 for one that doubles with the size.

    Args:
        sizes: More than 0.
        costs: More than 0, one a size.

    Raises:
        ValueError: If there are fewer than three points, which a line always fits.
    """
    if len(sizes) < 3:
        raise ValueError(f"an order needs three points, got {len(sizes)}")
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    return statistics.linear_regression(x, y).slope
