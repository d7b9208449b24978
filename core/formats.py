"""Rows as people write them, to rows in canonical columns."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, cast

from core.contracts import Row
from core.converted import CONVERTED
from core.errors import RowError, UserError, shortened
from core.messages import with_system
from core.options import COLUMNS

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
    "messages": ("system",),
    "sharegpt": ("system",),
    "alpaca": ("input", "system"),
    "prompt-completion": ("system",),
    "unpaired": ("system",),
}
"""Format -> what else is read."""


class UnsuitedError(UserError):
    """The objective cannot work on rows of this format.

    Attributes:
        offered: The canonical columns that come of them.
    """

    def __init__(self, objective: Collection[str], form: str) -> None:
        offered = _and(OFFERS[form])
        super().__init__(
            f"the objective needs {_and(objective)}, the data offer {offered} ({form})",
            "an objective for such rows, or data.columns.COLUMN=COLUMN OF THE FILE",
        )
        self.offered = OFFERS[form]


def recognise(columns: Collection[str], wanted: str, mapped: Mapping[str, str], objective: Collection[str] = ()) -> str:
    """The format of rows with these columns.

    Args:
        columns: Of the file, or of its first rows.
        wanted: ``data.format``.
        mapped: ``data.columns``, canonical -> file's.
        objective: Canonical columns of the objective; rows that offer them need no format.

    Raises:
        UnsuitedError: the objective needs other columns.
        UserError: nothing is recognised.

    Example:
        >>> recognise(["instruction", "input", "output"], "auto", {})
        'alpaca'
    """
    if wanted != "auto":
        return wanted
    here = set(columns) | set(mapped)
    found = [name for name, needed in FORMATS.items() if here.issuperset(needed)]
    asked = [set(needed.split("|")) for needed in objective]
    # what the objective can work on comes first: a file may have text beside prompt and completion
    found.sort(key=lambda name: -sum(bool(one & set(OFFERS[name])) for one in asked))
    if found and all(one & {*OFFERS[found[0]], *here} for one in asked):
        return found[0]
    # an answer without a prompt is a column that is misspelt, no format of its own
    if asked and all(here & one for one in asked) and ("prompt" in here or "completion" not in here):
        return "columns"
    if found:
        raise UnsuitedError(objective, found[0])
    odd = "; line 1 was taken as the header" if any(map(_no_name, columns)) else ""
    raise UserError(
        f"the data's format is not recognised from its columns: {listed(columns) or 'none'}{odd}", _meant(here)
    )


OTHERS: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "query", "instruction", "input", "source", "user", "human", "context"),
    "completion": ("completion", "answer", "response", "output", "reply", "target", "assistant", "bot", "solution"),
    "messages": ("messages", "conversation", "dialogue", "dialog", "chat", "turns"),
    "text": ("text", "content", "document", "body"),
}
"""Canonical column -> what others call it, the surest first."""

KNOWN_PAIRS = (("prompt", "completion"), ("messages",), ("text",))


def _meant(here: set[str]) -> str:
    """What to type where nothing is recognised: a mapping of nearly the names, or of names that others use."""
    for needed in FORMATS.values():
        lower = {name.lower(): name for name in here - set(needed)}
        near = {name: get_close_matches(name, lower, 1, 0.75) for name in needed if name not in here}
        if all(near.values()) and near.keys() <= set(COLUMNS):
            return f"did you mean {mapping({name: lower[found[0]] for name, found in near.items()})}?"
    called = _called(here)
    for needed in KNOWN_PAIRS:
        found = {ours: next((called[other] for other in OTHERS[ours] if other in called), "") for ours in needed}
        if all(found.values()):
            return mapping({ours: theirs for ours, theirs in found.items() if ours != theirs})
    if any(map(_no_name, here)):
        return "if line 1 is a row, write the columns' names above it, such as prompt,completion"
    return "data.columns.prompt=COLUMN data.columns.completion=COLUMN, or data.columns.messages=COLUMN"


def _called(columns: Collection[str]) -> Mapping[str, str]:
    """Name in small letters -> the column; also its last word, where no other column ends in it.

    Example:
        >>> _called(["Q Id", "a"])
        {'id': 'Q Id', 'a': 'a', 'q id': 'Q Id'}
    """
    words = {name: re.split(r"[\W_]+", name.lower())[-1] for name in columns}
    number = Counter(words.values())
    ends = {word: name for name, word in words.items() if number[word] == 1}
    return ends | {name.lower(): name for name in columns}


def mapping(theirs: Mapping[str, str]) -> str:
    """What to type for columns of other names.

    Example:
        >>> print(mapping({"prompt": "question", "completion": "the answer"}))
        data.columns.prompt=question 'data.columns.completion="the answer"'
    """
    from core.overrides import quoted  # imports Hydra

    plain = {ours: re.fullmatch(r"[\w.-]+", name) is not None for ours, name in theirs.items()}
    typed = [f"data.columns.{ours}={name if plain[ours] else quoted(name)}" for ours, name in theirs.items()]
    return " ".join(map(shlex.quote, typed))


def _no_name(column: str) -> bool:
    """Whether it looks like a value, as the first row of a table without a header has.

    Example:
        >>> [_no_name(column) for column in ("7", "What is it?", "Full Name")]
        [True, True, False]
    """
    return not column or column[-1] in ".?!" or column.count(" ") > 3 or column[0].isdigit()


def listed(columns: Collection[str]) -> str:
    """Names of columns in a line, quoted unless they are words; they may be many, or long.

    Example:
        >>> listed(["b", "a", " c"])
        "' c', a, b"
    """
    names = [shortened(name if re.fullmatch(r"[\w.-]+", name) else repr(name), 40) for name in sorted(columns)]
    return ", ".join(names[:20]) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")


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
        >>> _and({"messages|completion", "label"})
        'label, and messages or completion'
    """
    either = any("|" in name for name in names)
    return (", and " if either else " and ").join(name.replace("|", " or ") for name in sorted(names))
