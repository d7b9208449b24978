"""Objectives for rows that the chosen one cannot work on."""

from __future__ import annotations

from collections.abc import Iterator

from core.errors import UserError
from core.formats import UnsuitedError
from core.loading import part_class
from core.registry import Registry


def suited(error: UnsuitedError, chosen: str, registry: Registry) -> UserError:
    """The error with the objective's name in it, and those that the rows are right for."""
    what = error.what.replace("the objective needs", f"objective={chosen} needs")
    names = "|".join(_names(error, registry))
    return UserError(what, f"objective={names}, or data.columns.COLUMN=COLUMN OF THE FILE" if names else error.fix)


def _names(error: UnsuitedError, registry: Registry) -> Iterator[str]:
    for offer in registry.offers:
        if offer.axis == "objective":
            try:
                columns: frozenset[str] = part_class(offer).columns
            except UserError:  # a stranger's that cannot be imported is nobody's choice
                continue
            if columns and all(set(needed.split("|")) & set(error.offered) for needed in columns):
                yield offer.part.name
