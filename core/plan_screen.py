"""The screen of ``plan``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from core.verdicts import AXES, since, untried

if TYPE_CHECKING:
    from core.planned import Planned

TERMS = {
    "weights": "the base as it is held",
    "trained": "what is trained, in float32",
    "gradients": "of what is trained",
    "optimizer": "its state",
    "activations": "kept for the way back, of {tokens:,} tokens",
    "logits": "of a slice of the vocabulary",
    "file": "pages of the weights' file, which the system may take back",
    "runtime": "libraries, threads, and what the heap leaves empty",
}
"""Term of ``core.forecast.Memory`` -> what it is."""


def lines(found: Planned) -> Iterator[str]:
    """The screen."""
    model, trained, steps = found.model, found.trained, found.steps
    yield f"model   {model['architecture']}, {model['parameters']:,} parameters, {model['dtype']}"
    yield f"parts   {'  '.join(f'{axis}={_named(part)}' for axis, part in found.parts.items())}"
    yield f"trains  {trained['parameters']:,} parameters ({trained['share']:.2%} of the model)"
    if (square := trained["square"]) is not None:
        side, pair = square["side"], square["parameters"]
        fewer = f"{pair:,}, {1 - pair / side**2:.1%} fewer than it has"
        yield f"        rank {square['rank']} on the largest square layer, {side:,} x {side:,}: {fewer}"
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
    fits = "" if found.needed < there else ": too little"
    yield f"  {'total':<12}{gigabytes(found.memory['total']):>9}  of {gigabytes(there)}{fits}"
    yield f"  {'nominal':<12}{gigabytes(found.memory['nominal'], 1):>9}  what textbooks say of the weights alone"
    new = untried(found.verdicts)
    yield f"verdict {f'unknown: nobody is known to have trained {new}' if new else f'tested, {_tested()}'}"
    for warning in found.warnings:
        yield f"warning {warning}"
    differs = "  ".join(f"{key}={value}" for key, value in found.differs.items())
    yield f"differs {differs or 'in nothing from the defaults'}"


def _tested() -> str:
    """Which parts, and with what where that is not what is here."""
    other = since()
    return f"{', '.join(AXES[:-1])} and {AXES[-1]} each with each" + (f" (with {other})" if other else "")


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
