"""Rows in, examples out: every row that cannot be used is counted and named, none is lost without a word."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.contracts import DataSource, Example, Objective, Row, Tokens
from core.errors import RowError, UserError
from core.formats import canonical, recognise
from core.options import DataOptions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_HELD_OUT = 500
FEWEST_TO_HOLD_OUT = 40
SHOWN = 5
"""Bad rows of a kind that are named; the rest are counted."""


@dataclass
class Rows:
    """Rows of one split.

    Attributes:
        rows: In canonical columns; an unusable one is a ``RowError`` in its place.
        origins: Where each came from, such as ``"train.jsonl:17"``.
        format: What they were recognised as.
    """

    rows: list[Row | RowError] = field(default_factory=list["Row | RowError"])
    origins: list[str] = field(default_factory=list[str])
    format: str = ""


@dataclass
class Encoded:
    """Rows of one split as the objective encodes them.

    Attributes:
        examples: What is trained or measured on.
        rows: The canonical row of each.
        origins: Where each came from.
        format: What the rows were recognised as.
        skipped: Rows that could not be used.
        truncated: Rows that were cut to ``data.max_length``.
        tokens: All tokens.
        supervised: Those with a loss weight.
        system: The system message that all rows share, or None.
    """

    examples: list[Example] = field(default_factory=list["Example"])
    rows: list[Row] = field(default_factory=list["Row"])
    origins: list[str] = field(default_factory=list[str])
    format: str = ""
    skipped: int = 0
    truncated: int = 0
    tokens: int = 0
    supervised: int = 0
    system: str | None = None


def row_key(row: Row) -> str:
    """A row's content as text, the same for equal rows.

    Example:
        >>> row_key({"b": 1, "a": "x"}) == row_key({"a": "x", "b": 1})
        True
    """
    return json.dumps(dict(row), sort_keys=True, default=str)


# ------------------------------------------------------------------------------------------------------------ reading
def read_rows(source: DataSource, objective: Objective, options: DataOptions, seed: int) -> tuple[Rows, Rows]:
    """Rows to train on and rows held out, in canonical columns.

    Args:
        source: Where rows come from.
        objective: For the columns it can work on.
        options: ``data.*``.
        seed: Decides what is held out when the source has no validation rows.

    Raises:
        UserError: there is nothing to read, or its format is not recognised.
    """
    train = _read(source, "train", objective, options)
    if not train.rows:
        raise UserError("the training data are empty", "give data.train a file with rows")
    raw = source.rows("validation")
    if raw is None:
        return _hold_out(train, options.holdout, seed)
    return train, _canonical(raw, source, "validation", objective, options)


def _read(source: DataSource, split: Any, objective: Objective, options: DataOptions) -> Rows:
    return _canonical(source.rows(split) or [], source, split, objective, options)


def _canonical(raw: Iterable[Any], source: DataSource, split: str, objective: Objective, options: DataOptions) -> Rows:
    listed: list[Any] = list(raw)
    columns = sorted({key for row in listed[:100] if isinstance(row, Mapping) for key in row})
    origins = [source.origin(split, index) for index in range(len(listed))]
    if not columns:  # nothing but unreadable rows: they say why
        return Rows([row if isinstance(row, RowError) else RowError("", "is not an object") for row in listed], origins)
    form = recognise(columns, options.format, options.columns, objective.columns)
    return Rows([_one(row, form, options) for row in listed], origins, form)


def _one(row: Any, form: str, options: DataOptions) -> Row | RowError:
    if isinstance(row, RowError):
        return row
    if not isinstance(row, Mapping):
        return RowError("", "is not an object")
    try:
        return canonical(row, form, options.columns)
    except RowError as error:
        return error


def _hold_out(rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """A share of the rows, at most 500, none below 40 rows; the same for the same seed."""
    number = min(MOST_HELD_OUT, round(share * len(rows.rows))) if len(rows.rows) >= FEWEST_TO_HOLD_OUT else 0
    held = set(random.Random(seed).sample(range(len(rows.rows)), number))  # noqa: S311  # nothing secret

    def some(inside: bool) -> Rows:
        kept = [i for i in range(len(rows.rows)) if (i in held) is inside]
        return Rows([rows.rows[i] for i in kept], [rows.origins[i] for i in kept], rows.format)

    return some(False), some(True)


# ----------------------------------------------------------------------------------------------------------- encoding
def encode(rows: Rows, objective: Objective, tokenizer: PreTrainedTokenizerBase, options: DataOptions) -> Encoded:
    """Encode every row, and stop at or count those that cannot be used.

    Raises:
        UserError: a row cannot be used and ``data.on_bad_row`` is ``stop``, or none can.
    """
    found = Encoded(format=rows.format)
    bad: list[tuple[str, RowError]] = []
    for origin, row in zip(rows.origins, _prepared(rows.rows, objective), strict=True):
        try:
            if isinstance(row, RowError):
                raise row
            _check_columns(row, objective)
            example, cut = _fitted(objective.encode(row, tokenizer), options.max_length)
        except RowError as error:
            bad.append((origin, error))
            continue
        found.examples.append(example)
        found.rows.append(row)
        found.origins.append(origin)
        found.truncated += cut
    _judge(bad, len(rows.rows), options.on_bad_row)
    found.skipped = len(bad)
    _count(found)
    return found


def _prepared(rows: list[Row | RowError], objective: Objective) -> Sequence[Row | RowError]:
    if type(objective).prepare_rows is Objective.prepare_rows:
        return rows
    from datasets import Dataset

    good = [dict(row) for row in rows if not isinstance(row, RowError)]
    prepared: list[Any] = objective.prepare_rows(Dataset.from_list(good)).to_list() if good else []
    if len(prepared) != len(good):
        raise TypeError(f"{type(objective).__qualname__}.prepare_rows must keep the number of rows")
    ready = iter(prepared)
    return [row if isinstance(row, RowError) else next(ready) for row in rows]


def _check_columns(row: Row, objective: Objective) -> None:
    for needed in sorted(objective.columns):
        if not any(row.get(column) is not None for column in needed.split("|")):
            raise RowError(needed.replace("|", " or "), "is missing")


def _fitted(example: Example, max_length: int) -> tuple[Example, bool]:
    """Cut each sequence from its end; something supervised must remain."""
    kept: dict[str, Tokens | int | float] = {}
    cut = False
    for name, value in example.items():
        if not isinstance(value, Tokens):
            kept[name] = value
            continue
        # the first token has nothing before it that could predict it
        weights = [0.0, *value.loss_weights[1:max_length]]
        if not any(weights):
            if any(value.loss_weights[1:]):
                first = next(i for i, weight in enumerate(value.loss_weights) if weight)
                raise RowError(name, f"starts after {first} tokens of prompt, data.max_length is {max_length}")
            raise RowError(name, "has no supervised token")
        cut |= len(value.ids) > max_length
        kept[name] = Tokens(list(value.ids[:max_length]), weights)
    return kept, cut


def _judge(bad: Sequence[tuple[str, RowError]], total: int, on_bad_row: str) -> None:
    if bad and (on_bad_row == "stop" or len(bad) == total):
        kinds = Counter(_kind(error) for _, error in bad)
        shown: Counter[str] = Counter()
        lines: list[str] = []
        for origin, error in bad:
            kind = _kind(error)
            shown[kind] += 1
            if shown[kind] <= SHOWN:
                lines.append(f"{origin}: {error}")
        lines += [f"... and {n - SHOWN} more of this kind: {kind}" for kind, n in kinds.items() if n > SHOWN]
        what = "\n       ".join([*lines, f"{len(bad):,} of {total:,} rows cannot be used"])
        leave_out = "" if len(bad) == total else ", or leave them out: data.on_bad_row=skip"
        raise UserError(what, f"{_remedy(bad)}{leave_out}")


def _remedy(bad: Sequence[tuple[str, RowError]]) -> str:
    long = any("data.max_length" in error.what for _, error in bad)
    return "data.max_length=MORE" if long else "mend the rows"


def _kind(error: RowError) -> str:
    """Numbers and quoted values differ from row to row; the kind does not."""
    text = "".join("#" if c.isdigit() else c for c in str(error))
    return text.split("'")[0].split(":")[0] if error.field == "" else text.split("'")[0]


def _count(found: Encoded) -> None:
    for example in found.examples:
        for value in example.values():
            if isinstance(value, Tokens):
                found.tokens += len(value.ids)
                found.supervised += sum(weight != 0 for weight in value.loss_weights)
    found.system = _shared_system(found.rows)


def _shared_system(rows: Sequence[Row]) -> str | None:
    systems = {_system(row) for row in rows}
    return systems.pop() if len(systems) == 1 else None


def _system(row: Row) -> str | None:
    messages: Any = row.get("messages") or [{}]
    first = messages[0]
    return first["content"] if first.get("role") == "system" else None
