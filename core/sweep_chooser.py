"""A sweeper that chooses as it goes needs a number of each job, of one kind, and more is better."""

from __future__ import annotations

from collections.abc import Sequence

from core.compose import Config
from core.errors import UserError

DIRECTION = "hydra.sweeper.direction"


def check_choosable(typed: Sequence[str], configs: Sequence[Config]) -> None:
    """Look at jobs that it might choose.

    Args:
        typed: The overrides of the sweep.
        configs: Of such jobs.

    Raises:
        UserError: they would measure nothing, or not the same, or the worst would be taken for the best.
    """
    for line in typed:
        key, _, value = line.lstrip("+").partition("=")
        if key == DIRECTION and value != "maximize":
            raise UserError(
                f"{line}: a sweeper is given a metric's negative where less is better", "leave it out, more is better"
            )
    metrics = dict.fromkeys(_metric(config) for config in configs)
    if "none" in metrics:
        raise UserError("metric=none leaves a sweeper nothing to choose by", "metric=loss")
    if len(metrics) > 1:
        raise UserError(f"jobs would be compared by {' and '.join(metrics)}", "metric=NAME, one for all")


def _metric(config: Config) -> str:
    """Its name; what ``auto`` means is said by objective and data."""
    name = config.choices["metric"]
    if name != "auto":
        return name
    objective, data = (
        config.registry.make(config.offers[axis], config.options[axis]) for axis in ("objective", "data")
    )
    return objective.metric or data.metric
