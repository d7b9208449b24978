"""Nulls that a table puts into its rows: in Arrow's columns all objects have the keys that one of them has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from core.contracts import Row


def without_filler(row: Row) -> Row:
    """A row of a table without the nulls inside its columns, which no row of JSON had; for sources that read tables.

    A tool's call with ``{"city": "Oslo"}`` beside one with ``{"x": 1}`` comes back as ``{"city": "Oslo", "x": None}``,
    and a model would learn to write that. A message keeps ``content``, which is null where it calls tools.

    Example:
        >>> without_filler({"tools": [{"name": "weather", "city": "Oslo", "x": None}], "id": None})
        {'tools': [{'name': 'weather', 'city': 'Oslo'}], 'id': None}
    """
    return {column: _without(value) for column, value in row.items()}


def _without(value: Any) -> Any:
    if isinstance(value, list):
        return [_without(one) for one in cast("list[Any]", value)]
    if not isinstance(value, Mapping):
        return value
    found = cast("Mapping[str, Any]", value)
    kept = ("content",) if "role" in found else ()
    return {key: _without(one) for key, one in found.items() if one is not None or key in kept}
