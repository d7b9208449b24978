"""Rows in: read from their source, in canonical columns, each with the place it came from."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal

from core.contracts import DataSource, Head, Objective, Row
from core.errors import RowError, UserError
from core.options import DataOptions
from core.recognised import Recognised, check_mapped
from core.returned import made_as, returned, slip
from core.row_file import Listed, RowFile
from core.row_text import check_text

if TYPE_CHECKING:
    from datasets import Dataset

MOST_HELD_OUT = 500
FEWEST_TO_HOLD_OUT = 40
LOOKED_AT = 100
"""Rows whose columns tell the format."""


@dataclass
class Rows:
    """Rows of one split.

    Attributes:
        rows: In canonical columns; an unusable one is a ``RowError`` in its place.
        origins: Where each came from, such as ``"train.jsonl:17"``.
        format: What they were recognised as.
        unused: Columns that nothing reads.
        hashes: Of the content of each, wherever it came from.
        shares: How often each is taken in an epoch; None: each once.
    """

    rows: Sequence[Row | RowError] = field(default_factory=list["Row | RowError"])
    origins: Sequence[str] = field(default_factory=list["str"])
    format: str = ""
    unused: tuple[str, ...] = ()
    hashes: Sequence[int] = ()
    shares: Sequence[float] | None = None


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
    train = _read(source, "train", _raw(source, "train") or (), objective, options)
    if not train.rows:
        fix = "give data.train a file with rows" if hasattr(options, "train") else "options of data that find some"
        raise UserError(f"the training data are empty: {made_as(source)} reads no row", fix)
    raw = _raw(source, "validation")
    if raw is None:
        return _hold_out(train, options, seed)
    held = _read(source, "validation", raw, objective, options)
    if options.group:
        _check_apart(train, held, options.group)
    return train, held


def _raw(source: DataSource, split: Literal["train", "validation"]) -> Iterable[Any] | None:
    """What a source reads, whose errors of a row stand in the row's place."""
    found = source.rows(split)
    return None if found is None else _yielded(source, returned(source, "rows", found, Iterable))


def _yielded(source: DataSource, rows: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from rows
    except RowError as error:
        raise slip(source, "rows", f"raised RowError: {error}", "it yields one in the place of the row") from error


def _read(source: DataSource, split: str, raw: Iterable[Any], objective: Objective, options: DataOptions) -> Rows:
    """Rows one after the other into a file, so that no more than a few are in memory."""
    rows = iter(raw if options.max_rows is None or split != "train" else islice(raw, options.max_rows))
    first = list(islice(rows, LOOKED_AT))
    columns = set[str]().union(*map(_columns, first))
    file = RowFile()
    known: Recognised | None = None
    if columns:  # else nothing but unreadable rows: they say why
        with _about(source, split):
            known = Recognised(sorted(columns), options.format, options.columns, objective.columns, objective.optional)
    shares: list[float] = []
    for index, row in enumerate(chain(first, rows)):
        columns |= _columns(row)
        file.append(_one(row, known, options), source.origin(split, index))
        shares.append(source.share(split, index))
    if known:
        with _about(source, split):
            check_mapped(options.columns, columns)
    every = range(len(file))
    return Rows(
        Listed(file.row, every),
        Listed(file.origin, every),
        known.seen if known else "",
        tuple(c for c in known.unused(columns) if c != options.group) if known else (),
        file.hashes,
        None if all(share == 1 for share in shares) else shares,
    )


@contextmanager
def _about(source: DataSource, split: str) -> Generator[None]:
    """Name the source in an error about its columns."""
    try:
        yield
    except UserError as error:
        error.what = f"{source.origin(split, 0)}: {error.what}"
        raise


def _columns(row: Any) -> set[str]:
    """Names in a row; keys that are no text have none."""
    return {key for key in row if isinstance(key, str)} if isinstance(row, Mapping) else set()


def _one(row: Any, known: Recognised | None, options: DataOptions) -> Row | RowError:
    if isinstance(row, RowError):
        return row
    if not isinstance(row, Mapping) or known is None:
        return RowError("", "is not an object")
    try:
        check_text(row)
        found = known.canonical(row, options.system)
    except RowError as error:
        return error
    # a column that has become another one still tells the groups apart
    group = options.group
    return {**found, group: row[group]} if group is not None and group in row else found


def _hold_out(rows: Rows, options: DataOptions, seed: int) -> tuple[Rows, Rows]:
    """A share of the rows, at most 500, none below 40 rows; the same for the same seed."""
    total = len(rows.rows)
    number = min(MOST_HELD_OUT, round(options.holdout * total)) if total >= FEWEST_TO_HOLD_OUT else 0
    chance = random.Random(seed)  # noqa: S311  # nothing secret
    held = _whole_groups(rows, options.group, number, chance) if options.group else chance.sample(range(total), number)
    inside = set(held)
    kept = [i for i in range(total) if i not in inside]
    return _some(rows, kept), _some(rows, sorted(inside))


def _whole_groups(rows: Rows, column: str, number: int, chance: random.Random) -> Sequence[int]:
    """Rows of groups drawn at random, as many as there is room for, one at least; no group is on both sides.

    Raises:
        UserError: no row has the column, or its groups are so large that more than half would be held out.
    """
    groups = _groups(rows, column)
    names = sorted(groups)
    chance.shuffle(names)
    held: list[int] = []
    for name in names:
        if len(held) + len(groups[name]) <= number:
            held += groups[name]
    if number and not held:
        held = [*min((groups[name] for name in names), key=len)]
    if len(held) > len(rows.rows) / 2:
        raise UserError(
            f"data.group={column}: its groups are too large to hold some out whole, {len(names):,} for "
            f"{len(rows.rows):,} rows",
            "data.holdout=0, or data.group=ANOTHER COLUMN",
        )
    return held


def _groups(rows: Rows, column: str) -> Mapping[str, Sequence[int]]:
    """Value of a column -> the rows that have it; one without a value is a group of its own.

    Raises:
        UserError: no row has the column.
    """
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows.rows):
        value = None if isinstance(row, RowError) else row.get(column)
        groups.setdefault(f"{i}" if value is None else f"={value}", []).append(i)
    if not any(name.startswith("=") for name in groups):
        near = get_close_matches(column, rows.unused, 1)
        fix = f"did you mean data.group={near[0]}?" if near else "data.group=A COLUMN OF THE FILE, or null"
        raise UserError(f"data.group={column}: no row has such a column", fix)
    return groups


def _check_apart(train: Rows, held: Rows, column: str) -> None:
    """Rows that were split by their owner keep to the groups, too.

    Raises:
        UserError: a group is on both sides, or one side has none.
    """
    both = sorted(name for name in _groups(train, column).keys() & _groups(held, column).keys() if name[0] == "=")
    if both:
        raise UserError(
            f"data.group={column}: {len(both):,} of its values are trained on and held out, such as {both[0][1:]!r}",
            "take their rows out of one side, or data.group=null",
        )


def _some(rows: Rows, chosen: Sequence[int]) -> Rows:
    return replace(
        rows,
        rows=Listed(rows.rows.__getitem__, chosen),
        origins=Listed(rows.origins.__getitem__, chosen),
        hashes=[rows.hashes[i] for i in chosen],
        shares=None if rows.shares is None else [rows.shares[i] for i in chosen],
    )


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
    """Rows whose columns may hold a number here and text there, or objects with other keys: they stay as they are."""
    from datasets import Dataset, Features, Json

    good = [row for row in rows.rows if not isinstance(row, RowError)]
    columns = dict.fromkeys(column for row in good for column in row)
    features = Features({column: Json() for column in columns})
    return Dataset.from_dict({c: [row.get(c) for row in good] for c in columns}, features) if good else None
