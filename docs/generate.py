"""Writes docs/hooks.md and docs/contracts.md from the code; a test compares them.

Run: python docs/generate.py
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

from core import capabilities, contracts, hookspecs
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


def main() -> None:
    """Write both."""
    (HERE / "hooks.md").write_text(hooks(), encoding="utf-8")
    (HERE / "contracts.md").write_text(contracts_(), encoding="utf-8")


if __name__ == "__main__":
    main()
