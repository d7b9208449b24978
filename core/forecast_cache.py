"""A forecast from an earlier plan of the same run: nothing is counted twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from typing import Any

from core.cache import cache_folder, code_of, name_of, note_down, stamp
from core.forecast import Forecast, Memory, forecast
from core.plan import Plan
from core.run_data import Data
from core.weights import on_gpu

PACKAGES = ("torch", "transformers", "peft", "lightning", "bitsandbytes")
"""Whose version changes what a step keeps."""


def forecast_once(plan: Plan, data: Data) -> Forecast:
    """The forecast, counted now or read from the cache.

    Raises:
        UserError: as ``forecast`` does.
    """
    file = cache_folder() / "forecasts" / f"{key(plan, data)}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        said: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        memory = Memory(**said.pop("memory"))
        return Forecast(**said, memory=memory)
    found = forecast(plan, data)
    note_down(file, asdict(found))
    return found


def key(plan: Plan, data: Data) -> str:
    """Of everything that is counted: parts with their options and code, the model's shape, the rows' lengths."""
    config = plan.config
    axes = [axis for axis in config.offers if axis != "metric"]
    what: dict[str, Any] = {
        "parts": [[axis, config.offers[axis].version, config.offers[axis].part.name] for axis in axes],
        "options": [[axis, asdict(config.options[axis])] for axis in axes],
        "code": [code_of(thing) for thing in (plan.method, plan.quantizer, plan.objective, plan.loader, plan.optim)],
        "model": [str(plan.facts), stamp(plan.facts.path), asdict(plan.start.model), str(plan.start.adapter)],
        "gpu": on_gpu(plan),
        "rows": [data.train.facts.digest, asdict(data.head), _digest(data.train.lengths)],
        "run": [config.seed, asdict(config.trainer)],
        "core": code_of(data),
        "packages": [metadata.version(name) for name in PACKAGES],
    }
    return name_of(what)


def _digest(lengths: Sequence[int]) -> str:
    return hashlib.sha256(" ".join(map(str, lengths)).encode()).hexdigest()
