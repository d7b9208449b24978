"""Options of the exact-match metric: types and limits."""

from dataclasses import dataclass

from core.api import MetricOptions, within


@dataclass(frozen=True, kw_only=True)
class ExactOptions(MetricOptions):
    """Values and comments are in ``conf/metric/exact.yaml``."""

    name: str
    batch_size: int

    def __post_init__(self) -> None:
        MetricOptions.__post_init__(self)
        within("metric.batch_size", self.batch_size, 1)
