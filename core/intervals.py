"""Intervals of what was measured on a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev


def wilson(hits: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953).

    Args:
        hits: Of them; a tie may count as half.
        n: Out of how many.
        z: Quantile of the normal distribution.

    Example:
        >>> [round(end, 3) for end in wilson(84, 100)]
        [0.756, 0.899]
    """
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


T = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448,
    2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484,
    2.0452, 2.0423,
)  # fmt: skip
"""97.5 % quantiles of Student's distribution for 1 to 30 degrees of freedom."""


def of_mean(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of a few values, such as one of each seed (Student 1908).

    Args:
        values: Two or more.

    Example:
        >>> [round(end, 3) for end in of_mean([0.80, 0.82, 0.84])]
        [0.77, 0.87]
    """
    freedom = len(values) - 1
    half = (T[freedom - 1] if freedom <= len(T) else 1.96) * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half
