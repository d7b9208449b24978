"""Rows that cannot be used: what is wrong with them, in lines that name some of each kind and count the rest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import RowError, UserError

SHOWN = 5
"""Bad rows of a kind that are named; the rest are counted."""


@dataclass(frozen=True)
class Bad:
    """A row that cannot be used.

    Attributes:
        origin: Where it came from.
        field: The column at fault.
        what: What is wrong.
        needed: Tokens that it would take, where it is too long.
    """

    origin: str
    field: str
    what: str
    needed: int = 0

    def __str__(self) -> str:
        """The line that is shown."""
        return f"{self.origin}: {RowError(self.field, self.what)}"

    @property
    def said(self) -> str:
        """What is wrong in words that rows share: of what is no row at all, those before the details."""
        return str(RowError(self.field, self.what)) if self.field else self.what.partition(":")[0]

    @property
    def kind(self) -> str:
        """The same for rows that differ in numbers and quoted values alone."""
        return VALUE.sub("...", self.said)


class OfRowError(UserError):
    """A ``UserError`` that a row brought to light.

    Attributes:
        row: Its index.
    """

    def __init__(self, what: str, fix: str, row: int) -> None:
        super().__init__(what, fix)
        self.row = row

    def __reduce__(self) -> Any:
        """So that it can come from another process."""
        return type(self), (self.what, self.fix, self.row)


QUOTED = r"""'(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | ['"].*?[.]{3}(?=\s)"""
NUMBER = r"-?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?"
VALUE = re.compile(rf"(?<!\w)(?:{QUOTED}|{NUMBER})(?!\w)", re.VERBOSE)
"""A number, or a text that is quoted and may have been shortened, in what is said of a row."""


def refusal(bad: Sequence[Bad], total: int, nothing_left: bool) -> UserError:
    """The error for rows that cannot be used.

    Args:
        bad: The rows.
        total: All rows.
        nothing_left: Whether leaving them out would leave none.
    """
    what = "\n       ".join([*named(bad), f"{len(bad):,} of {total:,} rows cannot be used"])
    needed = max(row.needed for row in bad)
    mend = f"data.max_length={needed}" if needed else "mend the rows"
    return UserError(what, mend if nothing_left else f"{mend}, or leave them out: data.on_bad_row=skip")


def named(bad: Sequence[Bad]) -> list[str]:
    """The first rows of each kind in full, the rest as numbers."""
    kinds: dict[str, list[Bad]] = {}
    for row in bad:
        kinds.setdefault(row.kind, []).append(row)
    first = {id(row) for rows in kinds.values() for row in rows[:SHOWN]}
    more = [rows for rows in kinds.values() if len(rows) > SHOWN]
    lines = [str(row) for row in bad if id(row) in first]
    return lines + [f"... and {len(rows) - SHOWN:,} more of this kind: {_shared(rows)}" for rows in more]


def _shared(rows: Sequence[Bad]) -> str:
    """What is wrong with rows of a kind, with the values that are the same in all of them.

    Example:
        >>> _shared([Bad("", "weight", f"is {value}, not a number above 0") for value in (-1, "'x'")])
        'weight: is ..., not a number above 0'
    """
    values = zip(*(VALUE.findall(row.said) for row in rows), strict=False)
    same = (one[0] if len(set(one)) == 1 else "..." for one in values)
    return VALUE.sub(lambda _: next(same, "..."), rows[0].said)
