"""The metric before and after training; the value before is cached, for it depends on nothing that is trained."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from core.cache import cache_folder, name_of, note_down
from core.computed_by import computed_by
from core.context import RunContext
from core.contracts import Row, Score
from core.devices import first
from core.memory import give_back
from core.plan import Plan
from core.returned import returned
from core.screen import timed


def measure(
    plan: Plan, model: nn.Module, rows: Sequence[Row], context: RunContext, screen: Console, when: str = "after"
) -> Score | None:
    """What the metric finds on ``rows``, or None when there is no metric or no row.

    The model is in eval mode meanwhile, without gradient and without autocast, as it will be when it is used.
    """
    if plan.metric is None or not rows or not first(plan.config.trainer):
        return None
    modes = {module: module.training for module in model.modules()}
    model.eval()
    give_back()
    try:
        with torch.no_grad(), _contiguous_head(model), timed(screen, when):
            found = plan.metric.measure(model, rows[: plan.config.options["metric"].rows], context)
            return returned(plan.metric, "measure", found, Score)
    finally:
        for module, mode in modes.items():
            module.training = mode
        give_back()


@contextmanager
def _contiguous_head(model: nn.Module) -> Generator[None]:
    """While inside, the output layer gets its input in one piece.

    ``generate`` hands it the last position of each prompt, a slice; torch multiplies that one as a product per prompt
    and copies the layer's weight for each; ``benchmarks/output_layer.py`` shows time and memory.
    """
    find: Any = getattr(model, "get_output_embeddings", lambda: None)
    head = find()
    if not isinstance(head, nn.Module):
        yield
        return
    hook = head.register_forward_pre_hook(lambda _layer, inputs: (inputs[0].contiguous(), *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()


def measure_before(
    plan: Plan, model: nn.Module, rows: Sequence[Row], context: RunContext, screen: Console
) -> Score | None:
    """The same, from the cache when this base, quantizer, metric and rows were measured before.

    Not with an adapter to go on from, nor of weights that are in no folder and so may be others later.
    """
    unkept = plan.metric is None or not rows or plan.start.adapter is not None
    if unkept or (file := _file(plan, rows, context)) is None:
        return measure(plan, model, rows, context, screen, "before")
    with suppress(OSError, ValueError, TypeError, KeyError):  # there is none, or a damaged one
        known = Score.of_plain(json.loads(file.read_text(encoding="utf-8")))
        screen.print("before  [dim]measured by an earlier run[/dim]")
        return known
    score = measure(plan, model, rows, context, screen, "before")
    if score is not None:
        note_down(file, asdict(score))
    return score


def _file(plan: Plan, rows: Sequence[Row], context: RunContext) -> Path | None:
    """Named after all that the value depends on; None where that cannot be known."""
    by = computed_by(plan, context.head, context.device.type, ("loader", "quant", "objective", "metric"))
    if by is None:
        return None
    what: Mapping[str, Any] = {
        **by,
        "max_length": plan.options.max_length,
        "template": plan.tokenizer.chat_template,
        "rows": list(rows),
    }
    return cache_folder() / "before" / f"{name_of(what)}.json"
