"""Intervals of what was measured on a sample."""

from __future__ import annotations

import math


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
