"""Reads the rows and counts, so that it is known what a run will do and need before any weight is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

from core.choices import default_choices
from core.compose import Config
from core.contracts import Head, Tokens
from core.data import Encoded
from core.devices import ranks
from core.forecast import forecast
from core.forecast_cache import forecast_once
from core.hydra_app import compose_tree, plain
from core.memory import there
from core.plan import Plan
from core.planned import Planned
from core.registry import AXES
from core.run_data import Data
from core.stages import read
from core.verdicts import of_pairs
from core.weights import on_gpu


def planned(plan: Plan, data: Data | None = None) -> Planned:
    """Read the rows, where nobody has, and count, without weights.

    Raises:
        UserError: the rows cannot be used, or the method cannot act on the model.
    """
    known = plan.tokenizer is not None  # pyright: ignore[reportUnnecessaryComparison]  # a look may have none
    data = data or (read(plan) if known else _unknown(plan))
    found = forecast_once(plan, data) if known else forecast(plan, data)
    facts, counted = plan.facts, data.train.facts
    return Planned(
        parts=_parts(plan.config),
        model={
            "architecture": facts.architecture,
            "path": str(facts.path),
            "parameters": facts.parameters,
            "dtype": plan.start.model.dtype,
        },
        trained={
            "parameters": found.trained,
            "share": found.trained / facts.parameters,
            "file": _file(plan, found.trained),
            "square": _square(plan),
        },
        rows={
            "summary": data.summary,
            "train": len(data.train.rows),
            "held_out": len(data.validation.rows),
            "tokens": counted.tokens,
            "supervised": counted.supervised,
            "truncated": counted.truncated,
            "format": counted.format,
        }
        if known
        else None,
        steps={"steps": found.steps, "examples": _a_step(plan), "tokens": found.tokens},
        verdicts=of_pairs(plan.config.offers),
        memory={
            **asdict(found.memory),
            "total": found.memory.total,
            "nominal": nominal(facts.parameters, _bits(plan)),
            "there": _there(plan),
        },
        warnings=(*_missing(plan.facts.path), *data.warnings),
        differs=differences(plan.config),
    )


WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")


def _missing(folder: Path) -> Iterator[str]:
    """That a model's folder holds no weights yet: nothing else here reads them."""
    if folder.is_dir() and not any(file for pattern in WEIGHTS for file in folder.glob(pattern)):
        yield f"no weights are in {folder} yet: a run needs them"


def _unknown(plan: Plan) -> Data:
    """One micro-batch of the longest examples there may be: without a tokenizer rows cannot be encoded.

    An example of an objective that compares answers has a sequence for each of them.
    """
    length = plan.options.max_length
    names = sorted(plan.objective.columns & {"chosen", "rejected"}) or ["completion"]
    examples = [{name: Tokens([0] * length, [1.0] * length) for name in names}] * plan.options.batch_size
    return Data(Head(), Encoded(examples, lengths=[length * len(names)] * len(examples)), Encoded())


def nominal(parameters: int, bits: float) -> int:
    """Bytes of the weights as textbooks have them.

    Args:
        parameters: Rounded to whole billions from there on.
        bits: Of a weight, scales left out.

    Example:
        >>> [nominal(6_738_415_616, bits) / 1e9 for bits in (32, 8, 4)]
        [28.0, 7.0, 3.5]
    """
    rounded = round(parameters, -9) if parameters >= 1e9 else parameters
    return int(rounded * int(bits) // 8)


def _bits(plan: Plan) -> float:
    return 8 * plan.dtype.itemsize if plan.dense else plan.quantizer.bits


def _file(plan: Plan, trained: int) -> int:
    """Adapters are saved as they were trained, models in the base's dtype."""
    return 4 * trained if plan.method.saves == "adapter" else plan.dtype.itemsize * plan.facts.parameters


def _a_step(plan: Plan) -> int:
    """Examples, or what packing made of them, that one optimizer step sees."""
    trainer = plan.config.trainer
    return plan.options.batch_size * trainer.accumulate_grad_batches * ranks(trainer)


def _square(plan: Plan) -> dict[str, int] | None:
    """Side of the largest square layer, and the parameters of two matrices of the method's rank on it."""
    adds = "adapter" in plan.config.offers["method"].part.provides
    rank = getattr(plan.config.options["method"], "rank", None) if adds else None
    sides = [inputs for inputs, outputs in plan.facts.linears.values() if inputs == outputs]
    return {"side": max(sides), "rank": rank, "parameters": 2 * rank * max(sides)} if sides and rank else None


def _there(plan: Plan) -> int:
    """Bytes of the device's memory, or of this machine's."""
    if on_gpu(plan):
        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return there()


def _parts(config: Config) -> dict[str, dict[str, str]]:
    offers = {axis: config.offers[axis] for axis in AXES if axis in config.offers}
    return {
        axis: {"name": offer.part.name, "distribution": offer.distribution, "version": offer.version}
        for axis, offer in offers.items()
    }


def differences(config: Config) -> dict[str, Any]:
    """Choices that are not the defaults, and options that are not as the yaml of the chosen parts has them."""
    usual = default_choices()
    chosen = {axis: name for axis, name in config.choices.items() if name != usual.get(axis)}
    asked = {line.lstrip("+").partition("=")[0] for line in config.overrides}
    usual = plain(compose_tree([f"{axis}={name}" for axis, name in chosen.items()], config.registry)[0])
    found = {**chosen, **dict(_values(usual, config.tree))}
    # the data's own suggestion, and the rate that goes with the method: nobody chose those
    return {key: value for key, value in found.items() if key not in {"metric", "optim.lr"} - asked}


def _values(usual: Mapping[str, Any], chosen: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in chosen.items():
        if isinstance(value, Mapping):
            yield from _values(usual.get(name, {}), cast("Mapping[str, Any]", value), f"{key}{name}.")
        elif value != usual.get(name):
            yield f"{key}{name}", value
