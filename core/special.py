"""Which tokens are no text: the template's marks, begin, end and padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokenizer's special tokens, those among the added ones included."""
    named: Any = getattr(tokenizer, "all_special_ids", ())
    added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    return frozenset({*named, *(id for id, token in added.items() if token.special)})
