"""Which tokens are no text, such as the template's marks, begin, end and padding, and where a row spells one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast
from weakref import WeakKeyDictionary


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokenizer's special tokens, those among the added ones included."""
    named: Any = getattr(tokenizer, "all_special_ids", ())
    return frozenset({*named, *_added_special(tokenizer)})


def spellings(tokenizer: Any, special: frozenset[int]) -> re.Pattern[str] | None:
    """Finds what any of these tokens looks like; None where the tokenizer has none, or reads them as text."""
    if not hasattr(tokenizer, "convert_ids_to_tokens") or getattr(tokenizer, "split_special_tokens", False):
        return None
    written = sorted(filter(None, (tokenizer.convert_ids_to_tokens(id) for id in special)))
    return re.compile("|".join(map(re.escape, written))) if written else None


def spelt(pattern: re.Pattern[str], value: Any) -> bool:
    """Whether some text in a value, however deep it stands, spells one: the tokenizer takes it for the token itself."""
    if isinstance(value, str):
        return pattern.search(value) is not None
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return any(spelt(pattern, one) for one in cast("Iterable[Any]", inside))


_added: WeakKeyDictionary[Any, tuple[int, frozenset[int]]] = WeakKeyDictionary()


def _added_special(tokenizer: Any) -> frozenset[int]:
    """Added tokens that are special; the library builds their table at each question, for a tenth of a row's time."""
    if not hasattr(type(tokenizer), "added_tokens_decoder"):  # a tokenizer that is not transformers' own
        return frozenset()
    size = len(tokenizer)
    known = _added.get(tokenizer)
    if known is None or known[0] != size:
        added: Mapping[int, Any] = tokenizer.added_tokens_decoder
        known = _added[tokenizer] = (size, frozenset(id for id, token in added.items() if token.special))
    return known[1]
