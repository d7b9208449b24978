"""Which tokens are no text: the template's marks, begin, end and padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokenizer's special tokens, those among the added ones included."""
    named: Any = getattr(tokenizer, "all_special_ids", ())
    return frozenset({*named, *_added_special(tokenizer)})


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
