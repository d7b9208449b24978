"""The format of a set's rows, some of which may have other columns than most."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from core.contracts import Row
from core.errors import UserError
from core.formats import BESIDE, FORMATS, OFFERS, canonical, listed, mapping, recognise
from core.options import COLUMNS


class Recognised:
    """The format of most rows, and of those that have other columns.

    Attributes:
        seen: Formats that rows were read as, joined.
    """

    def __init__(
        self,
        columns: Collection[str],
        wanted: str,
        mapped: Mapping[str, str],
        objective: Collection[str],
        optional: Collection[str] | None = None,
    ) -> None:
        self.usual = _usual(columns, wanted, mapped, objective)
        needed = {column for either in objective for column in either.split("|")}
        self.reads = COLUMNS if optional is None else frozenset({*needed, *optional})
        if useless := sorted(set(mapped) - set(self.reads)):
            raise UserError(
                f"data.columns.{useless[0]}={mapped[useless[0]]}: the objective does not read {useless[0]}",
                f"leave it out; it reads {', '.join(sorted(self.reads))}",
            )
        self.sure = wanted != "auto" or self.usual == "columns"
        self.mapped = mapped
        self.objective = objective
        self.needed = needed
        self.used = {self.usual: None}
        self.others: dict[frozenset[str], str] = {}

    @property
    def seen(self) -> str:
        """Formats that rows were read as, the usual one first."""
        return " and ".join(self.used)

    def canonical(self, row: Mapping[str, Any], system: str | None) -> Row:
        """A row in canonical columns.

        Raises:
            RowError: as ``canonical`` does.
        """
        form = self.usual
        if not self.sure and not set(FORMATS[form]) <= {*row, *_there(self.mapped, row)}:
            form = self._other(frozenset(row))
        found = canonical(row, form, self.mapped, system)
        self.used[form] = None
        passed = self._passed_over(form)
        return {column: value for column, value in found.items() if column not in passed}

    def unused(self, columns: Collection[str]) -> tuple[str, ...]:
        """Columns that nothing reads."""
        read = [
            set(unused(columns, form, self.mapped, self.reads)) | self._passed_over(form).intersection(columns)
            for form in self.used
        ]
        return tuple(sorted(set.intersection(*read)))

    def _passed_over(self, form: str) -> set[str]:
        """Columns that say otherwise what the format's own say: the objective takes one of them, the format's."""
        offered = set(OFFERS.get(form, ()))
        either = [set(needed.split("|")) for needed in self.objective]
        passed = set[str]().union(*(one - offered for one in either if one & offered))
        return passed | {"prompt"} - offered - self.needed if passed else passed

    def _other(self, columns: frozenset[str]) -> str:
        """The format of a row with other columns than most; the nearest one where it has none of its own."""
        if columns not in self.others:
            try:
                self.others[columns] = recognise(columns, "auto", _there(self.mapped, columns), self.objective)
            except UserError:
                self.others[columns] = max(FORMATS, key=lambda name: self._fits(name, columns))
        return self.others[columns]

    def _fits(self, form: str, columns: frozenset[str]) -> tuple[int, bool]:
        """How many columns of a format a row has: what it lacks of the nearest one is what is missing."""
        return len({*columns, *_there(self.mapped, columns)}.intersection(FORMATS[form])), form == self.usual


def _there(mapped: Mapping[str, str], columns: Collection[str]) -> dict[str, str]:
    """Of ``data.columns`` what is about columns that are there: the files of a set may have others."""
    return {ours: theirs for ours, theirs in mapped.items() if theirs in columns}


def _usual(columns: Collection[str], wanted: str, mapped: Mapping[str, str], objective: Collection[str]) -> str:
    """The format of the first rows; a column that is mapped may come with a later file, where they do without."""
    try:
        return recognise(columns, wanted, _there(mapped, columns), objective)
    except UserError:
        # one that no format is made out by may come late, too
        needs = set[str]().union(*FORMATS.values())
        check_mapped({ours: theirs for ours, theirs in mapped.items() if ours in needs}, columns)
        raise


def check_mapped(mapped: Mapping[str, str], columns: Collection[str]) -> None:
    """Columns that were named are there.

    Args:
        mapped: ``data.columns``, canonical -> file's.
        columns: Of the rows that were read.

    Raises:
        UserError: one is not.
    """
    for ours, theirs in mapped.items():
        if theirs not in columns:
            near = get_close_matches(theirs, columns, 1)
            guess = f"did you mean {mapping({ours: near[0]})}?  " if near else ""
            raise UserError(
                f"data.columns.{ours}={theirs}: no row that was read has such a column",
                f"{guess}one of {listed(columns)}",
            )


def unused(
    columns: Collection[str], form: str, mapped: Mapping[str, str], used: Collection[str] = COLUMNS
) -> tuple[str, ...]:
    """Columns of a file that nothing reads.

    Args:
        columns: Of the file.
        form: Their format.
        mapped: ``data.columns``, canonical -> file's.
        used: Canonical columns that the objective uses.

    Example:
        >>> unused(["id", "instruction", "input", "output"], "alpaca", {})
        ('id',)
        >>> unused(["prompt", "completion", "label"], "unpaired", {}, ["prompt", "completion", "weight"])
        ('label',)
    """
    others = {column for column in FORMATS.get(form, ()) if column not in COLUMNS}
    read = {*used, *others, *(mapped[ours] for ours in mapped if ours in used), *BESIDE.get(form, ())}
    return () if form == "columns" else tuple(sorted(set(columns) - read))
