"""``plan``: what a run would do and need, on one screen, before any weight is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from core.compose import configure
from core.errors import UserError
from core.loading import import_first
from core.quiet import hush
from core.verb_flags import take_flags

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from core.contracts import Loader
    from core.options import ModelOptions
    from core.planned import Planned

TERMS = {
    "weights": "the base as it is held",
    "trained": "what is trained, in float32",
    "gradients": "of what is trained",
    "optimizer": "its state",
    "activations": "kept for the way back, of {tokens:,} tokens",
    "logits": "of a slice of the vocabulary",
    "file": "pages of the weights' file, which the system may take back",
    "runtime": "libraries and threads",
}
"""Term of ``core.forecast.Memory`` -> what it is."""


def plan(argv: Sequence[str]) -> int:
    """Do what was typed behind ``plan``.

    Raises:
        UserError: a name, a value or a flag is wrong, or the run could not begin.
    """
    flags, overrides = take_flags("plan", argv, {"--json": ""})
    config = configure(overrides)
    hush()
    import_first(config.offers.values())
    from core.plan import make_plan
    from core.planned import planned

    found = planned(make_plan(config, tokenizer_of=_if_there))
    print(json.dumps(found.plain(), indent=1) if flags else "\n".join(lines(found)))
    return 0


def _if_there(loader: Loader, source: ModelOptions) -> PreTrainedTokenizerBase:
    """The tokenizer, or None where only the model's config has been fetched."""
    try:
        return loader.tokenizer(source)
    except UserError:
        return cast("Any", None)


def lines(found: Planned) -> Iterator[str]:
    """The screen."""
    model, trained, steps = found.model, found.trained, found.steps
    yield f"model   {model['architecture']}, {model['parameters']:,} parameters, {model['dtype']}"
    yield f"parts   {'  '.join(f'{axis}={_named(part)}' for axis, part in found.parts.items())}"
    yield f"trains  {trained['parameters']:,} parameters ({trained['share']:.2%} of the model)"
    yield f"rows    {_rows(found)}"
    yield (
        f"steps   {'unknown' if found.rows is None else format(steps['steps'], ',')}, of {steps['examples']} examples; "
        f"the largest micro-batch has {steps['tokens']:,} tokens"
    )
    yield "memory"
    for term, what in TERMS.items():
        if found.memory[term]:
            yield f"  {term:<12}{gigabytes(found.memory[term]):>9}  {what.format(**steps)}"
    there = found.memory["there"]
    fits = "" if found.memory["total"] < there else ": too little"
    yield f"  {'total':<12}{gigabytes(found.memory['total']):>9}  of {gigabytes(there)}{fits}"
    yield f"  {'nominal':<12}{gigabytes(found.memory['nominal'], 1):>9}  what textbooks say of the weights alone"
    for warning in found.warnings:
        yield f"warning {warning}"
    differs = "  ".join(f"{key}={value}" for key, value in found.differs.items())
    yield f"differs {differs or 'in nothing from the defaults'}"


def _named(part: Any) -> str:
    """With its distribution where that is not ours."""
    ours = part["distribution"] == "hooktune"
    return part["name"] if ours else f"{part['name']} ({part['distribution']} {part['version']})"


def _rows(found: Planned) -> str:
    rows = found.rows
    if rows is None:
        return "tokens unknown: the model has no tokenizer here"
    return rows["summary"] + (f"; {rows['truncated']:,} rows cut" if rows["truncated"] else "")


def gigabytes(number: int, digits: int = 2) -> str:
    """With its unit.

    Example:
        >>> gigabytes(26_953_662_464)
        '26.95 GB'
    """
    return f"{number / 1e9:,.{digits}f} GB"
