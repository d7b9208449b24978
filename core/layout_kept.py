"""A model's layout, found by an earlier run of the same model, parts and rows: eight forwards less until it trains."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from core import attention
from core.batch import Layout
from core.cache import cache_folder, name_of, note_down
from core.computed_by import computed_by
from core.context import RunContext
from core.contracts import Example, Tokens
from core.ending import Ending
from core.layout import choose, longest_and_shortest, must_be_padded, quickest
from core.logprobs import assume, ending_of, output_model
from core.plan import Plan
from core.run_data import Data


def choose_once(
    plan: Plan, model: nn.Module, data: Data, context: RunContext, applied: bool, keep: bool = True
) -> Layout:
    """``core.layout.choose``, or what it found for an earlier run.

    Only what needs no warning is kept: where rows must be padded, or the model makes its logits in a way of its own,
    each run looks anew and says it.

    Args:
        plan: The run's.
        model: Its attention is exchanged where that helps.
        data: Its longest and shortest examples are tried.
        context: The run's.
        applied: Whether the method was applied.
        keep: Whether ``model`` is as ``plan`` loads it; else it is looked at anew, and nothing is kept.
    """
    examples = data.train.examples
    keep = keep and not must_be_padded(plan.method, data.head)
    file = _file(plan, data, context, applied) if keep else None
    if file is not None and (known := _read(file)) is not None:
        layout, ending = known
        if layout == "masked" or attention.install(model):
            assume(output_model(model), ending)
            return layout
    layout = choose(model, plan.method, data.head, examples, context.pad)
    if file is not None and layout != "padded" and (ending := ending_of(model)) is not None and not ending.plain:
        note_down(file, {"layout": layout, "ending": asdict(ending)})
    return layout


def digest(examples: Sequence[Example]) -> str:
    """Of token ids and weights: they are what a model is asked about."""
    found = hashlib.sha256()
    for example in examples:
        for name, value in example.items():
            if isinstance(value, Tokens):
                found.update(name.encode())
                found.update(array("q", value.ids).tobytes())
                found.update(array("d", value.loss_weights).tobytes())
    return found.hexdigest()


def _file(plan: Plan, data: Data, context: RunContext, applied: bool) -> Path | None:
    """Named after all that the answer depends on; None where that cannot be known."""
    by = computed_by(plan, data.head, context.device.type, ("loader", "quant", *(["method"] if applied else [])))
    if by is None:
        return None
    what: dict[str, Any] = {
        **by,
        "applied": applied,
        "examples": digest(longest_and_shortest(data.train.examples)),
        "best": quickest(data.train.examples),
        "pad": context.pad,
    }
    return cache_folder() / "layouts" / f"{name_of(what)}.json"


def _read(file: Path) -> tuple[Layout, Ending] | None:
    with suppress(OSError, ValueError, LookupError, TypeError):  # damaged: it is found out again
        found: Any = json.loads(file.read_text(encoding="utf-8"))
        if found["layout"] in ("shared", "apart", "masked"):
            return found["layout"], Ending(**found["ending"])
    return None
