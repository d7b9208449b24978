"""Whether two runs differ by more than chance, from what each made of the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000
"""Random signs; a p below a few times 1 / DRAWS is no more than that."""


@dataclass(frozen=True)
class Difference:
    """Second minus first.

    Attributes:
        mean: Over the rows.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: How often random signs of the rows' differences give a mean as far from zero.
    """

    mean: float
    low: float
    high: float
    p: float


def difference(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Difference:
    """Paired permutation test of the mean (Fisher 1935; Good 2005, section 3.2), and the bootstrap's interval.

    For answers that are right or wrong it tends to McNemar's test.

    Args:
        first: A value for each row.
        second: The same rows in the same order.
        seed: Of the draws.

    Example:
        >>> difference([0, 0, 1, 1], [0, 0, 1, 1]).p
        1.0
        >>> difference([0.0] * 12, [1.0] * 12).p < 0.01
        True
    """
    gained_R = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    random = np.random.default_rng(seed)
    observed, rows = float(gained_R.mean()), len(gained_R)
    means, drawn = np.empty(DRAWS), np.empty(DRAWS)
    for at in range(DRAWS):
        means[at] = (gained_R * random.choice((-1.0, 1.0), rows)).mean()
        drawn[at] = gained_R[random.integers(0, rows, rows)].mean()
    as_far = int((np.abs(means) >= abs(observed) - 1e-12).sum())
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Difference(observed, float(low), float(high), (as_far + 1) / (DRAWS + 1))
