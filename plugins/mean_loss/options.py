"""Options of the held-out loss: only those that every metric has."""

from dataclasses import dataclass

from core.api import MetricOptions


@dataclass(frozen=True, kw_only=True)
class MeanLossOptions(MetricOptions):
    """Values and comments are in ``conf/metric/loss.yaml``."""

    name: str
