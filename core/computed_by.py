"""What a value that a model computes depends on, besides what it is asked about: the name of a value that is kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from core.cache import code_of, computing, stamp
from core.contracts import Head
from core.plan import Plan

PARTS = {"loader": "loader", "quant": "quantizer", "method": "method", "objective": "objective", "metric": "metric"}
"""Axis -> its attribute of a plan."""


def computed_by(plan: Plan, head: Head, device: str, axes: Collection[str]) -> Mapping[str, Any] | None:
    """Weights, parts, versions and our own code.

    Args:
        plan: The run's.
        head: Which model class.
        device: What kind it lies on.
        axes: Of the parts that have a hand in it; the method has one where training goes on from an adapter.

    Returns:
        None where the weights are in no folder, so may be others later.
    """
    config, adapter = plan.config, plan.start.adapter
    weights = stamp(plan.facts.path)
    if not weights:
        return None
    axes = [axis for axis in PARTS if axis in axes or (axis == "method" and adapter is not None)]
    parts = {axis: getattr(plan, PARTS[axis]) for axis in axes}
    return {
        "model": [asdict(plan.start.model), weights, asdict(head)],
        "seed": None if head == Head() else config.seed,  # a new head is random
        "adapter": adapter and [str(adapter), stamp(adapter)],
        "parts": [[code_of(part), config.offers[a].version, asdict(config.options[a])] for a, part in parts.items()],
        "computed": [device, *computing()],
        "core": code_of(plan),
    }
