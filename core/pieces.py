"""Token ids as text that can be looked at, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from core.contracts import Tokens
from core.special import special_ids


@dataclass(frozen=True)
class Piece:
    """One token, or the several that make whole characters only together.

    Attributes:
        text: What they say.
        ids: Theirs.
        weight: Of the loss; 0.0 is context only.
        special: Whether it is a special token.
    """

    text: str
    ids: tuple[int, ...]
    weight: float
    special: bool


def pieces(tokens: Tokens, tokenizer: Any) -> Iterator[Piece]:
    """The whole sequence; the texts, one after the other, are what the tokenizer decodes it to."""
    special = special_ids(tokenizer)
    before: Sequence[int] = ()
    held: list[int] = []
    ids, weights = list(tokens.ids), list(tokens.loss_weights)
    for i, (id, weight) in enumerate(zip(ids, weights, strict=True)):
        held.append(id)
        text = _behind(before, held, tokenizer)
        whole = not text.endswith("\ufffd")  # else a character whose further bytes are in the next token
        if whole or i + 1 == len(ids) or weights[i + 1] != weight or ids[i + 1] in special:
            yield Piece(text, tuple(held), weight, id in special)
            before, held = held if whole else (), []


def _behind(before: Sequence[int], ids: Sequence[int], tokenizer: Any) -> str:
    """What ids say behind others: alone, many a tokenizer drops the space before a first word."""
    known, both = (_decoded(some, tokenizer) for some in (before, [*before, *ids]))
    return both[len(known) :] if both.startswith(known) else _decoded(ids, tokenizer)


def _decoded(ids: Sequence[int], tokenizer: Any) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def visible(text: str) -> str:
    r"""Text without what a terminal or a page would act on; new lines stay.

    Example:
        >>> print(visible("a\x1b[31m\u202eb"))
        a\x1b[31m\u202eb
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
