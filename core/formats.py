"""Rows as people write them, to rows in canonical columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from core.contracts import Row
from core.errors import RowError, UserError

FORMATS: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "alpaca": ("instruction", "output"),
    "prompt-completion": ("prompt", "completion"),
}
"""Format -> the columns that make it out, tried in this order."""

WITH_PAIRS = ("input", "system")
"""What else a prompt and its completion may have beside them."""

CANONICAL = ("messages", "prompt", "completion", "chosen", "rejected", "label", "text", "tools", "weight")


def recognise(columns: Collection[str], wanted: str, mapped: Mapping[str, str], objective: Collection[str] = ()) -> str:
    """The format of rows with these columns.

    Args:
        columns: Of the file, or of its first rows.
        wanted: ``data.format``.
        mapped: ``data.columns``, canonical -> file's.
        objective: Canonical columns of the objective; rows that offer them need no format.

    Raises:
        UserError: nothing is recognised, or a column that was named is not there.

    Example:
        >>> recognise(["instruction", "input", "output"], "auto", {})
        'alpaca'
    """
    for ours, theirs in mapped.items():
        if ours not in CANONICAL:
            raise UserError(f"data.columns.{ours}: there is no such column", f"one of {', '.join(CANONICAL)}")
        if theirs not in columns:
            raise UserError(
                f"data.columns.{ours}={theirs}: the data have no such column", f"one of {', '.join(sorted(columns))}"
            )
    if wanted != "auto":
        return wanted
    here = set(columns) | set(mapped)
    for name, needed in FORMATS.items():
        if here.issuperset(needed):
            return name
    if objective and all(here & set(needed.split("|")) for needed in objective):
        return "columns"
    raise UserError(
        f"the data's format is not recognised from its columns: {', '.join(sorted(columns)) or 'none'}",
        "data.columns.prompt=COLUMN data.columns.completion=COLUMN, or data.columns.messages=COLUMN",
    )


def unused(columns: Collection[str], form: str, mapped: Mapping[str, str]) -> tuple[str, ...]:
    """Columns of a file that nothing reads.

    Example:
        >>> unused(["id", "instruction", "input", "output"], "alpaca", {})
        ('id',)
    """
    read = {*CANONICAL, *FORMATS.get(form, ()), *mapped.values(), *(WITH_PAIRS if form != "messages" else ())}
    return () if form == "columns" else tuple(sorted(set(columns) - read))


def check_text(value: Any, field: str = "") -> None:
    """Every text in a row can be written as UTF-8.

    Raises:
        RowError: one holds half a character, which no tokenizer takes.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RowError(field, f"holds half a character (a lone surrogate) at {error.start + 1}") from None
    elif isinstance(value, Mapping):
        for key, inside in value.items():
            check_text(inside, f"{field}.{key}" if field else str(key))
    elif isinstance(value, list):
        for i, inside in enumerate(value):
            check_text(inside, f"{field}[{i}]")


def canonical(row: Mapping[str, Any], form: str, mapped: Mapping[str, str]) -> Row:
    r"""A row in canonical columns.

    Raises:
        RowError: a column is missing, or holds no text.

    Example:
        >>> canonical({"instruction": "Add.", "input": "1 2", "output": "3"}, "alpaca", {})
        {'prompt': 'Add.\n\n1 2', 'completion': '3'}
    """
    taken = set(mapped.values())
    named = {key: value for key, value in row.items() if key not in taken}
    named |= {ours: row[theirs] for ours, theirs in mapped.items() if theirs in row}
    needed = FORMATS.get(form, ())
    for column in needed:
        if named.get(column) is None:
            raise RowError(mapped.get(column, column), "is missing")
        if form != "messages" and not isinstance(named[column], str):
            raise RowError(mapped.get(column, column), "is not text")
    system = _text(named, "system") if form in ("alpaca", "prompt-completion") else ""
    if form == "alpaca":
        more = _text(named, "input")
        prompt = f"{named['instruction']}\n\n{more}" if more.strip() else named["instruction"]
        kept = {key: value for key, value in named.items() if key not in ("instruction", "input", "output")}
        named = {**kept, "prompt": prompt, "completion": named["output"]}
    return {**named, "messages": _conversation(system, named)} if system.strip() else named


def _text(row: Mapping[str, Any], column: str) -> str:
    """A column that may be missing."""
    value = row.get(column) or ""
    if not isinstance(value, str):
        raise RowError(column, "is not text")
    return value


def _conversation(system: str, row: Mapping[str, Any]) -> list[dict[str, str]]:
    said = (("system", system), ("user", row["prompt"]), ("assistant", row["completion"]))
    return [{"role": role, "content": content} for role, content in said]
