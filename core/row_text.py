"""What no text of a row may hold: half a character, a NUL; and how deep a row may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from core.errors import RowError, shortened

SAID, PLAIN = ("content", "value"), (str, int, float, list, Mapping, type(None))
"""Where a message's text stands, and what JSON holds: anything else would become text by its Python form."""

DEEPEST = 100
"""How deep lists and objects may stand in each other: JSON reads ten times that, and no more."""


def check_text(value: Any, field: str = "", depth: int = 0) -> None:
    """Every text in a row can be written as UTF-8, and is text.

    Raises:
        RowError: one holds half a character or a NUL, a name is no text, or the row is nested too deeply.
    """
    if depth > DEEPEST:
        raise RowError(re.split(r"[.\[]", field, maxsplit=1)[0], f"is nested more than {DEEPEST} levels deep")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RowError(field, f"holds half a character (a lone surrogate) at {error.start + 1}") from None
        if "\0" in value:
            raise RowError(field, f"holds a NUL character at {value.index(chr(0)) + 1}")
    elif isinstance(value, Mapping):
        for key, inside in value.items():
            _check_key(key, field)
            at = f"{field}.{key}" if field else key
            if field and key in SAID and not isinstance(inside, PLAIN):
                raise RowError(at, f"is {type(inside).__name__}, not text")
            check_text(inside, at, depth + 1)
    elif isinstance(value, list):
        for i, inside in enumerate(value):
            check_text(inside, f"{field}[{i}]", depth + 1)


def _check_key(key: Any, field: str) -> None:
    if not isinstance(key, str):
        raise RowError(field, f"has a column {shortened(repr(key), 40)}, whose name is not text")
    try:
        check_text(key)
    except RowError as error:
        raise RowError(field, f"has a column {shortened(repr(key), 40)}, which {error.what}") from None
