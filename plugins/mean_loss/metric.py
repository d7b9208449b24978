"""Mean loss over held-out rows, with the interval of a ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from core.api import Context, Metric, Row, Score
from plugins.mean_loss.options import MeanLossOptions


class MeanLoss(Metric):
    """The sum of the rows' losses over the sum of their items, such as supervised tokens."""

    def __init__(self, options: MeanLossOptions) -> None:
        self.options = options

    def measure(self, model: nn.Module, rows: Sequence[Row], context: Context) -> Score:
        """The objective's loss, reference included."""
        pairs = list(context.losses(model, rows))
        mean, half = ratio(pairs)
        # so scaled that their mean is the loss: a row counts by its items
        scale = len(pairs) / sum(items for _, items in pairs)
        of_rows = [total * scale for total, _ in pairs]
        return Score("loss", mean, len(pairs), mean - half, mean + half, "lower", of_rows=of_rows)


def ratio(pairs: Sequence[tuple[float, float]], z: float = 1.959964) -> tuple[float, float]:
    """A ratio of sums and half its 95 % interval, rows being what varies (Cochran 1977, equation 6.4).

    Example:
        >>> ratio([(2.0, 1.0), (2.0, 1.0), (4.0, 2.0)])
        (2.0, 0.0)
    """
    n = len(pairs)
    items = sum(i for _, i in pairs)
    mean = sum(total for total, _ in pairs) / items
    if n < 2:
        return mean, math.inf
    spread = sum((total - mean * i) ** 2 for total, i in pairs) / (n - 1)
    return mean, z * math.sqrt(n * spread) / items
