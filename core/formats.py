"""Rows as people write them, to rows in canonical columns."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, cast

from core.contracts import Row
from core.converted import CONVERTED
from core.errors import RowError, UserError, shortened
from core.messages import with_system

FORMATS: Mapping[str, tuple[str, ...]] = {
    "preference": ("chosen", "rejected"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt-completion": ("prompt", "completion"),
    "unpaired": ("prompt", "completion", "label"),
    "text": ("text",),
}
"""Format -> the columns that make it out, tried in this order."""

OFFERS: Mapping[str, tuple[str, ...]] = {
    **FORMATS,
    "sharegpt": ("messages",),
    "alpaca": ("prompt", "completion"),
}
"""Format -> the canonical columns that come of it."""

BESIDE: Mapping[str, tuple[str, ...]] = {
    "preference": ("conversations", "system"),
    "sharegpt": ("system",),
    "alpaca": ("input", "system"),
    "prompt-completion": ("system",),
    "unpaired": ("system",),
}
"""Format -> what else is read."""

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
            raise UserError(f"data.columns.{ours}={theirs}: the data have no such column", f"one of {listed(columns)}")
    if wanted != "auto":
        return wanted
    here = set(columns) | set(mapped)
    found = [name for name, needed in FORMATS.items() if here.issuperset(needed)]
    asked = [set(needed.split("|")) for needed in objective]
    # what the objective can work on comes first: a file may have text beside prompt and completion
    found.sort(key=lambda name: -sum(bool(one & set(OFFERS[name])) for one in asked))
    if found and (not asked or any(one & set(OFFERS[found[0]]) for one in asked)):
        return found[0]
    # an answer without a prompt is a column that is misspelt, no format of its own
    if asked and all(here & one for one in asked) and ("prompt" in here or "completion" not in here):
        return "columns"
    if found:
        raise UserError(
            f"the objective needs {_and(objective)}, the data offer {_and(OFFERS[found[0]])} ({found[0]})",
            "an objective for such rows, or data.columns.COLUMN=COLUMN OF THE FILE",
        )
    raise UserError(f"the data's format is not recognised from its columns: {listed(columns) or 'none'}", _meant(here))


def _meant(here: set[str]) -> str:
    """A mapping, where every column that a format lacks is there under nearly its name."""
    for needed in FORMATS.values():
        near = {name: get_close_matches(name, here - set(needed), 1, 0.75) for name in needed if name not in here}
        if all(near.values()) and near.keys() <= set(CANONICAL):
            return "did you mean " + " ".join(f"data.columns.{name}={found[0]}" for name, found in near.items()) + "?"
    return "data.columns.prompt=COLUMN data.columns.completion=COLUMN, or data.columns.messages=COLUMN"


def listed(columns: Collection[str]) -> str:
    """Names of columns in a line; they may be many, long, or hold what no terminal shows.

    Example:
        >>> listed(["b", "a"])
        'a, b'
    """
    names = [shortened(name if name.isprintable() else repr(name), 40) for name in sorted(columns)]
    return ", ".join(names[:20]) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")


def unused(columns: Collection[str], form: str, mapped: Mapping[str, str]) -> tuple[str, ...]:
    """Columns of a file that nothing reads.

    Example:
        >>> unused(["id", "instruction", "input", "output"], "alpaca", {})
        ('id',)
    """
    read = {*CANONICAL, *FORMATS.get(form, ()), *mapped.values(), *BESIDE.get(form, ())}
    return () if form == "columns" else tuple(sorted(set(columns) - read))


def canonical(row: Mapping[str, Any], form: str, mapped: Mapping[str, str], system: str | None = None) -> Row:
    r"""A row in canonical columns.

    Args:
        row: As it was read.
        form: Its format.
        mapped: ``data.columns``, canonical -> file's.
        system: System message of rows that have none; empty takes away those that are there.

    Raises:
        RowError: a column is missing, or holds neither text nor messages.

    Example:
        >>> canonical({"instruction": "Add.", "input": "1 2", "output": "3"}, "alpaca", {})
        {'prompt': 'Add.\n\n1 2', 'completion': '3'}
    """
    taken = set(mapped.values())
    named = {key: value for key, value in row.items() if key not in taken}
    named |= {ours: row[theirs] for ours, theirs in mapped.items() if theirs in row}
    for column in FORMATS.get(form, ()):
        if named.get(column) is None:
            raise RowError(mapped.get(column, column), "is missing")
        if form in ONLY_TEXT and not isinstance(named[column], str):
            raise RowError(mapped.get(column, column), "is not text")
    if system is not None and form in BESIDE:
        named = {**named, "system": system and (named.get("system") or system)}
    try:
        found = CONVERTED[form](named) if form in CONVERTED else named
    except RowError as error:
        raise RowError(of_file(error.field, mapped), error.what) from None
    return found if system is None else {n: _addressed(v, system) if n in STARTS else v for n, v in found.items()}


def of_file(field: str, mapped: Mapping[str, str]) -> str:
    """A column, or a place in it, as the user's file calls it.

    Example:
        >>> of_file("messages[1].content", {"messages": "dialog"})
        'dialog[1].content'
    """
    column = re.split(r"[.\[]", field, maxsplit=1)[0]
    return mapped.get(column, column) + field[len(column) :]


STARTS = ("messages", "prompt")
"""Columns that a conversation begins in."""


def _addressed(messages: Any, system: str) -> Any:
    """The conversation behind a system message, or without one where ``system`` is empty."""
    if not isinstance(messages, list) or not all(isinstance(message, Mapping) for message in messages):
        return messages
    said = cast("list[dict[str, Any]]", messages)
    if not system:
        return said[1:] if said and said[0].get("role") == "system" else said
    return with_system(system, said)


ONLY_TEXT = ("alpaca", "text")


def _and(names: Collection[str]) -> str:
    """Names in a line.

    Example:
        >>> _and({"label", "messages|completion"})
        'label and messages or completion'
    """
    return " and ".join(name.replace("|", " or ") for name in sorted(names))
