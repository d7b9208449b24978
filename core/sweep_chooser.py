"""Jobs are compared by what they measure; a sweeper that chooses as it goes needs that, and more is better."""

from __future__ import annotations

from collections.abc import Sequence

from core.compose import Config
from core.errors import UserError
from core.quiet import hush

DIRECTION = "hydra.sweeper.direction"


def check_choosable(typed: Sequence[str], configs: Sequence[Config]) -> None:
    """Look at jobs that it might choose.

    Args:
        typed: The overrides of the sweep.
        configs: Of such jobs.

    Raises:
        UserError: they would measure nothing, or the worst would be taken for the best.
    """
    for line in typed:
        key, _, value = line.lstrip("+").partition("=")
        if key == DIRECTION and value != "maximize":
            raise UserError(
                f"{line}: a sweeper is given a metric's negative where less is better", "leave it out, more is better"
            )
    if any(config.choices["metric"] == "none" for config in configs):
        raise UserError("metric=none leaves a sweeper nothing to choose by", "metric=loss")


def check_comparable(configs: Sequence[Config]) -> None:
    """Look at what the jobs of a sweep would measure.

    Raises:
        UserError: it is not the same for all.
    """
    kinds = {tuple(config.choices[axis] for axis in ("metric", "objective", "data")): config for config in configs}
    if len(kinds) < 2:  # what ``auto`` means need not be known, which takes seconds
        return
    hush()
    found = dict.fromkeys(map(_measured, kinds.values()))
    if len(found) > 1:
        raise UserError(f"jobs would be compared by {' and '.join(found)}", "metric=NAME, one for all, or metric=none")


def _measured(config: Config) -> str:
    """The metric's name, and whose loss it is; what ``auto`` means is said by objective and data."""
    name = config.choices["metric"]
    if name == "auto":
        objective, data = (
            config.registry.make(config.offers[axis], config.options[axis]) for axis in ("objective", "data")
        )
        name = objective.metric or data.metric
    return f"loss of {config.choices['objective']}" if name == "loss" else name
