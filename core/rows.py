"""Rows in: read from their source, in canonical columns, each with the place it came from."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from core.contracts import DataSource, Head, Objective, Row
from core.errors import RowError, UserError
from core.formats import canonical, check_text, recognise, unused
from core.options import DataOptions

if TYPE_CHECKING:
    from datasets import Dataset

MOST_HELD_OUT = 500
FEWEST_TO_HOLD_OUT = 40


@dataclass
class Rows:
    """Rows of one split.

    Attributes:
        rows: In canonical columns; an unusable one is a ``RowError`` in its place.
        origins: Where each came from, such as ``"train.jsonl:17"``.
        format: What they were recognised as.
        unused: Columns that nothing reads.
    """

    rows: list[Row | RowError] = field(default_factory=list["Row | RowError"])
    origins: list[str] = field(default_factory=list[str])
    format: str = ""
    unused: tuple[str, ...] = ()


def row_key(row: Row) -> str:
    """A row's content as text, the same for equal rows.

    Example:
        >>> row_key({"b": 1, "a": "x"}) == row_key({"a": "x", "b": 1})
        True
    """
    return json.dumps(dict(row), sort_keys=True, default=str)


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
    try:
        form = recognise(columns, options.format, options.columns, objective.columns)
    except UserError as error:
        raise UserError(f"{origins[0]}: {error.what}", error.fix) from None
    return Rows([_one(row, form, options) for row in listed], origins, form, unused(columns, form, options.columns))


def _one(row: Any, form: str, options: DataOptions) -> Row | RowError:
    if isinstance(row, RowError):
        return row
    if not isinstance(row, Mapping):
        return RowError("", "is not an object")
    try:
        check_text(row)
        return canonical(row, form, options.columns)
    except RowError as error:
        return error


def _hold_out(rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """A share of the rows, at most 500, none below 40 rows; the same for the same seed."""
    number = min(MOST_HELD_OUT, round(share * len(rows.rows))) if len(rows.rows) >= FEWEST_TO_HOLD_OUT else 0
    held = set(random.Random(seed).sample(range(len(rows.rows)), number))  # noqa: S311  # nothing secret

    def some(inside: bool) -> Rows:
        kept = [i for i in range(len(rows.rows)) if (i in held) is inside]
        return Rows([rows.rows[i] for i in kept], [rows.origins[i] for i in kept], rows.format, rows.unused)

    return some(False), some(True)


def prepared(rows: Rows, objective: Objective) -> Rows:
    """The rows as the objective prepares the whole set, unusable ones left where they are."""
    if type(objective).prepare_rows is Objective.prepare_rows:
        return rows
    good = _dataset(rows)
    found: list[Any] = objective.prepare_rows(good).to_list() if good is not None else []
    if len(found) != (0 if good is None else len(good)):
        raise TypeError(f"{type(objective).__qualname__}.prepare_rows must keep the number of rows")
    ready = iter(found)
    return replace(rows, rows=[row if isinstance(row, RowError) else next(ready) for row in rows.rows])


def head_of(rows: Rows, objective: Objective) -> Head:
    """Which model class the rows need."""
    if type(objective).head is Objective.head or (good := _dataset(rows)) is None:
        return Head()
    return objective.head(good)


def _dataset(rows: Rows) -> Dataset | None:
    from datasets import Dataset

    good = [dict(row) for row in rows.rows if not isinstance(row, RowError)]
    return Dataset.from_list(good) if good else None
