"""What a run will need, counted before it begins; what it then took stands beside it in the run's folder."""

from __future__ import annotations

import logging
from dataclasses import replace

from core.devices import first
from core.errors import UserError, shortened
from core.plan import Plan
from core.plan_screen import gigabytes
from core.planned import Planned
from core.planning import planned
from core.run_data import Data

log = logging.getLogger("hooktune")


def foretell(plan: Plan, data: Data) -> Planned | None:
    """Count, and warn where there is too little memory.

    The parts that are asked are made anew, for one that is asked twice may remember the first time.

    Returns:
        None in all processes but the first, and where a part cannot be counted without weights: that is said, and the
        run goes on.

    Raises:
        UserError: the method cannot act on this model.
    """
    config = plan.config
    if not first(config.trainer):
        return None
    method, objective, optim = (
        config.registry.make(config.offers[axis], config.options[axis]) for axis in ("method", "objective", "optim")
    )
    try:
        found = planned(replace(plan, method=method, objective=objective, optim=optim), data)
    except UserError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {shortened(str(error))}"
        log.warning("the memory that this will take could not be counted: %s", what)
        return None
    needed, there = found.needed, found.memory["there"]
    if needed > there:
        fix = f"python -m core plan --fit={there // 10**9}GB says what fits"
        log.warning("about %s of memory are needed, and there are %s; %s", gigabytes(needed), gigabytes(there), fix)
    return found
