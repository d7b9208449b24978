"""A metric that is not ours."""

from core.api import Metric, Score

SEEN: list[float] = []


class Longest(Metric):
    """The worst loss of a row."""

    def __init__(self, options):
        self.options = options

    def measure(self, model, rows, context):
        losses = [total / items for total, items in context.losses(model, rows)]
        SEEN.append(max(losses))
        return Score("longest", max(losses), len(rows), min(losses), max(losses), "lower")
