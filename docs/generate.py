"""Writes docs/hooks.md, docs/contracts.md and docs/compatibility.md from the code; a test compares them.

Run: python docs/generate.py
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

from core import capabilities, contracts, hookspecs, verdicts
from core.discovery import discover
from core.peft_method import PeftMethod
from core.plugin_list import KINDS
from core.records import Part
from core.registry import AXES

HERE = Path(__file__).resolve().parent
NOTE = "<!-- written by docs/generate.py from the code: change it there -->"


def hooks() -> str:
    """One heading a hook."""
    lines = [
        "# Hooks",
        NOTE,
        "A hook offers parts and does nothing else: it yields `Part` records, which name code without importing it. "
        "Mark a function with `@hookimpl`, in a module named by an entry point of the group `hooktune`. "
        "During training, Lightning's callbacks are the life cycle.",
    ]
    for axis, hook in AXES.items():
        spec = getattr(hookspecs, hook)
        lines += [f"## {hook}", f"Chosen with `{axis}=NAME`; `plugins new {KINDS[axis]} NAME` begins one.", _text(spec)]
    return "\n\n".join([*lines, "## Part", _text(Part), *_words()]) + "\n"


def _words() -> Iterator[str]:
    """What ``provides``, ``requires`` and ``conflicts`` may hold."""
    head, _, table = (inspect.getdoc(capabilities) or "").partition("\n\n")
    yield "## Words"
    yield f"{head} A plugin may have words of its own beside these."
    yield table.replace("``", "`")


def contracts_() -> str:
    """One heading a class, one a function of it."""
    lines = ["# Contracts", NOTE, _text(contracts)]
    classes = [c for c in vars(contracts).values() if inspect.isclass(c) and c.__module__ == contracts.__name__]
    classes.insert(classes.index(contracts.Method) + 1, PeftMethod)
    for cls in classes:
        lines += [f"## {cls.__name__}", _text(cls), *_functions(cls)]
    return "\n\n".join(lines) + "\n"


def _functions(cls: type) -> Iterator[str]:
    for name, function in vars(cls).items():
        if isinstance(function, FunctionType) and not name.startswith("_"):
            must = " (needed)" if getattr(function, "__isabstractmethod__", False) else ""
            yield f"### {cls.__name__}.{name}{must}"
            yield f"    {name}{_signature(function)}"
            yield _text(function)


class _Written(str):
    """An annotation, which is text here, as it is written."""

    __repr__ = str.__str__


def _signature(function: FunctionType) -> inspect.Signature:
    found = inspect.signature(function)
    parameters = [
        p if p.annotation is p.empty else p.replace(annotation=_Written(p.annotation))
        for p in found.parameters.values()
    ]
    return found.replace(parameters=parameters, return_annotation=_Written(found.return_annotation))


def _text(thing: object) -> str:
    """A docstring as markdown: sections of it as they are, indented lines as code."""
    text = inspect.getdoc(thing) or ""
    head, _, sections = text.partition("\n\n")
    return head.replace("``", "`") + (f"\n\n{textwrap.indent(sections, '    ')}" if sections else "")


def compatibility() -> str:
    """What goes with what: a table for each pair of axes, and why the rest does not."""
    known, registry = verdicts.matrix(), discover()
    combined = [[o.part.name for o in offers.values()] for offers in verdicts.combined(registry)]
    refused: dict[str, None] = {}
    for offers in verdicts.combined(registry):
        if why := verdicts.refusal(offers, CPU, registry):
            refused[why] = None
    packages = ", ".join(f"{name} {number}" for name, number in known["packages"].items())
    lines = [
        "# What goes with what",
        NOTE,
        f"`python benchmarks/compatibility.py` trained each of {len(known['tested'])} combinations of our own parts "
        f"that their words allow, of {len(combined)}: a few steps of a small random model ({known['made']}, "
        f"{known['machine']}; {packages}). `python -m core plan` says the verdict of a run, a run warns once of what "
        "nobody has trained (*unknown*: parts of other packages), and what cannot work is refused before anything is "
        "read, with the nearest choice that can. What words mean: [hooks](hooks.md#words).",
    ]
    for one, other in (("method", "quant"), ("objective", "method"), ("objective", "quant"), ("loader", "quant"),
                       ("loader", "method"), ("loader", "objective")):  # fmt: skip
        lines += [f"## {one.capitalize()} and {other}", _matrix(one, other, combined, known["tested"])]
    return "\n\n".join([*lines, "## Why not", "\n".join(f"* {why}" for why in refused)]) + "\n"


CPU = frozenset({"decoder", "causal-lm", "cpu"})
"""What the page takes for granted, whatever machine writes it."""


def _matrix(one: str, other: str, combined: list[list[str]], tested: list[list[str]]) -> str:
    i, j = verdicts.AXES.index(one), verdicts.AXES.index(other)
    columns = sorted({names[j] for names in combined})
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in sorted({names[i] for names in combined}):
        cells = [
            "tested" if any(names[i] == row and names[j] == column for names in tested) else "no" for column in columns
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Write them."""
    (HERE / "compatibility.md").write_text(compatibility(), encoding="utf-8")
    (HERE / "hooks.md").write_text(hooks(), encoding="utf-8")
    (HERE / "contracts.md").write_text(contracts_(), encoding="utf-8")


if __name__ == "__main__":
    main()
