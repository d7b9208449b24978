"""The objective's reference values, by the model as it stands before the method is applied: computed once and kept."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from core.batch import Layout, lay_out
from core.cache import cache_folder, name_of, note_down
from core.computed_by import computed_by
from core.context import RunContext
from core.contracts import Example, Objective
from core.layout_kept import choose_once, digest
from core.logprobs import token_logprobs
from core.plan import Plan
from core.row_file import Listed, row_key
from core.run_data import Data
from core.screen import timed
from core.weights import autocast

Values = Mapping[str, Sequence[float]]
"""Name -> a value for each example."""


def reference(
    plan: Plan, model: nn.Module, data: Data, context: RunContext, screen: Console | None = None, keep: bool = False
) -> None:
    """Give the examples the values under the frozen model as further numbers.

    Each side as it is used: rows to train on, and those of a validation pass, under autocast, a micro-batch at a time;
    those that are measured without, and as few at a time, for half precision rounds otherwise beside other rows.

    Args:
        plan: The run's parts.
        model: Loaded and quantized, with the adapter that training goes on from.
        data: Its examples are replaced.
        context: Gets the examples, too.
        screen: Says how long it took.
        keep: Whether ``model`` is as ``plan`` loads it, so that an earlier run's values are right and the next run's.
    """
    if type(plan.objective).reference is Objective.reference:
        return
    # what is measured before lies in it, too
    layout = context.layout = choose_once(plan, model, data, context, applied=False, keep=keep)
    train, held_out = data.train.examples, data.validation.examples
    asked = [(train, True), (held_out, False), *([(held_out, True)] if plan.config.trainer.limit_val_batches else [])]
    files = [_file(plan, data, context, layout, *one) if keep else None for one in asked]
    found = [_read(file, len(examples)) for file, (examples, _) in zip(files, asked, strict=True)]
    if screen is not None and None not in found:
        screen.print("reference  [dim]computed by an earlier run[/dim]")
    with nullcontext() if screen is None or None not in found else timed(screen, "reference"):
        for at, (examples, as_trained) in enumerate(asked):
            if found[at] is None:
                with autocast(plan, context.device, as_trained):
                    size = _together(plan, as_trained)
                    found[at] = values = _computed(model, examples, plan.objective, layout, context.pad, size)
                if (file := files[at]) is not None:
                    note_down(file, {"values": {name: list(one) for name, one in values.items()}})
    trained, measured, *validated = (_with(e, v or {}) for (e, _), v in zip(asked, found, strict=True))
    data.train.examples = context.examples = trained
    data.validation.examples = validated[0] if validated else held_out
    context.referenced = {row_key(row): e for row, e in zip(data.validation.rows, measured, strict=True)}


def _computed(
    model: nn.Module, examples: Sequence[Example], objective: Objective, layout: Layout, pad: int, size: int
) -> Values:
    """In train mode with dropout off: int8 layers differ between the modes, and the loss must start where it should."""
    device = next(model.parameters()).device
    dropouts = [(module, module.p) for module in model.modules() if isinstance(module, nn.Dropout)]
    for module, _ in dropouts:
        module.p = 0.0
    was_training = model.training
    model.train()
    found: dict[str, array[float]] = {}
    try:
        for start in range(0, len(examples), size):
            some = examples[start : start + size]
            with torch.no_grad():
                batch = lay_out(some, layout, pad).to(device)
                values: Mapping[str, Tensor] = objective.reference(token_logprobs(model, batch))
            for name, value in values.items():
                found.setdefault(name, array("d")).extend(value.tolist())
    finally:
        model.train(was_training)
        for module, p in dropouts:
            module.p = p
    return found


def _together(plan: Plan, as_trained: bool) -> int:
    """How many examples are laid out at a time."""
    return plan.options.batch_size if as_trained else plan.objective.smallest_batch


def _with(examples: Sequence[Example], values: Values) -> Sequence[Example]:
    def example(index: int) -> Example:
        return {**examples[index], **{name: one[index] for name, one in values.items()}}

    return Listed(example, range(len(examples)))


# ------------------------------------------------------------------------------------------------------ kept in a file
def _file(
    plan: Plan, data: Data, context: RunContext, layout: Layout, examples: Sequence[Example], as_trained: bool
) -> Path | None:
    """Named after all that the values depend on; None where that cannot be known."""
    by = computed_by(plan, data.head, context.device.type, ("loader", "quant", "objective"))
    if by is None:
        return None
    what: Mapping[str, Any] = {
        **by,
        "examples": digest(examples),
        "laid out": [layout, context.pad, _together(plan, as_trained)],
        "dtype": as_trained and str(plan.dtype),
    }
    return cache_folder() / "reference" / f"{name_of(what)}.json"


def _read(file: Path | None, number: int) -> Values | None:
    if file is None:
        return None
    with suppress(OSError, ValueError, LookupError, AttributeError, TypeError):  # damaged: it is computed again
        values: Any = json.loads(file.read_text(encoding="utf-8"))["values"]
        if all(len(of_examples) == number for of_examples in values.values()):
            return values
    return None
