"""Rows to examples: every row that cannot be used is counted and named, none is lost without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.contracts import Example, Head, Objective, Row, Tokens
from core.errors import RowError, UserError
from core.options import DataOptions
from core.rows import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN = 5
"""Bad rows of a kind that are named; the rest are counted."""


@dataclass
class Encoded:
    """Rows of one split as the objective encodes them.

    Attributes:
        examples: What is trained or measured on.
        rows: The canonical row of each.
        origins: Where each came from.
        format: What the rows were recognised as.
        unused: Columns that nothing read.
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
    unused: tuple[str, ...] = ()
    skipped: int = 0
    truncated: int = 0
    tokens: int = 0
    supervised: int = 0
    system: str | None = None


@dataclass(frozen=True)
class Limits:
    """What every example must keep to.

    Attributes:
        max_length: Tokens of a sequence.
        vocabulary: Tokens that the model knows.
        must_learn: Whether each sequence must hold a supervised token.
    """

    max_length: int
    vocabulary: int
    must_learn: bool


def encode(
    sides: Sequence[Rows],
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    options: DataOptions,
    vocabulary: int,
    head: Head,
) -> list[Encoded]:
    """Encode every row, and stop at or count those that cannot be used, of all sides together.

    Args:
        sides: Rows to train on, rows held out.
        objective: Encodes a row.
        tokenizer: The model's.
        options: ``data.*``.
        vocabulary: Tokens that the model knows.
        head: Which model is trained; a language model must have something to learn in every row.

    Raises:
        UserError: a row cannot be used and ``data.on_bad_row`` is ``stop``, or none of a side can; the tokenizer does
            not fit the model.
    """
    limits = Limits(options.max_length, vocabulary, must_learn=head.auto_class == Head().auto_class)
    bad: list[tuple[str, RowError]] = []
    found: list[Encoded] = []
    for rows in sides:
        side, unusable = _encode_side(rows, objective, tokenizer, limits)
        found.append(side)
        bad += unusable
    total = sum(len(rows.rows) for rows in sides)
    nothing_left = any(rows.rows and not side.rows for rows, side in zip(sides, found, strict=True))
    if bad and (options.on_bad_row == "stop" or nothing_left):
        raise _unusable(bad, total, nothing_left)
    return found


def _encode_side(
    rows: Rows, objective: Objective, tokenizer: PreTrainedTokenizerBase, limits: Limits
) -> tuple[Encoded, list[tuple[str, RowError]]]:
    found = Encoded(format=rows.format, unused=rows.unused)
    bad: list[tuple[str, RowError]] = []
    for origin, row in zip(rows.origins, rows.rows, strict=True):
        try:
            if isinstance(row, RowError):
                raise row
            _check_columns(row, objective)
            example = objective.encode(row, tokenizer)
            _check_ids(example, limits.vocabulary)
            example, cut = _fitted(example, row, limits)
        except RowError as error:
            bad.append((origin, error))
            continue
        except UserError as error:  # of the model or its template; the row shows where it was seen
            raise UserError(f"{origin}: {error.what}", error.fix) from None
        found.examples.append(example)
        found.rows.append(row)
        found.origins.append(origin)
        found.truncated += cut
    found.skipped = len(bad)
    _count(found)
    return found, bad


def _check_columns(row: Row, objective: Objective) -> None:
    for needed in sorted(objective.columns):
        if not any(row.get(column) is not None for column in needed.split("|")):
            raise RowError(needed.replace("|", " or "), "is missing")


def _check_ids(example: Example, vocabulary: int) -> None:
    largest = max((max(value.ids, default=0) for value in example.values() if isinstance(value, Tokens)), default=0)
    if largest >= vocabulary:
        raise UserError(
            f"the tokenizer gives token {largest}, the model knows {vocabulary:,}: they do not belong together",
            "model.path=A_MODEL with its own tokenizer",
        )


class TooLongError(RowError):
    """The prompt alone fills ``data.max_length``.

    Attributes:
        needed: Tokens of the whole sequence.
    """

    def __init__(self, field: str, what: str, needed: int) -> None:
        super().__init__(field, what)
        self.needed = needed


def _fitted(example: Example, row: Row, limits: Limits) -> tuple[Example, bool]:
    """Cut each sequence from its end; something supervised must remain where tokens are learned."""
    max_length = limits.max_length
    kept: dict[str, Tokens | int | float] = {}
    cut = False
    for name, value in example.items():
        if not isinstance(value, Tokens):
            kept[name] = value
            continue
        # the first token has nothing before it that could predict it
        weights = [0.0, *value.loss_weights[1:max_length]]
        if limits.must_learn and not any(weights):
            if any(value.loss_weights[1:]):
                first = next(i for i, weight in enumerate(value.loss_weights) if weight)
                what = f"the prompt alone takes {first} tokens, data.max_length is {max_length}"
                column = next((column for column in ("messages", "prompt") if row.get(column)), name)
                raise TooLongError(column, what, len(value.ids))
            raise RowError(name, "has no supervised token")
        cut |= len(value.ids) > max_length
        kept[name] = Tokens(list(value.ids[:max_length]), weights)
    return kept, cut


def _unusable(bad: Sequence[tuple[str, RowError]], total: int, nothing_left: bool) -> UserError:
    """The first rows of each kind in full, the rest as numbers."""
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
    needed = max((error.needed for _, error in bad if isinstance(error, TooLongError)), default=0)
    mend = f"data.max_length={needed}" if needed else "mend the rows"
    return UserError(what, mend if nothing_left else f"{mend}, or leave them out: data.on_bad_row=skip")


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
