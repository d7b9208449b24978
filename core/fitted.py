"""Examples that are longer than a sequence may be."""

from __future__ import annotations

from collections.abc import Sequence

from core.contracts import Example, Tokens


def fitted(example: Example, max_length: int, split: bool = False) -> Sequence[Example]:
    """Cut each sequence from its end, or let what is too long go on in further examples.

    The first token of a sequence has nothing before it that could predict it, so its weight is 0.

    Example:
        >>> [piece["text"].ids for piece in fitted({"text": Tokens([1, 2, 3], [1.0] * 3)}, 2, split=True)]
        [[1, 2], [3]]
    """
    longest = max((len(value.ids) for value in example.values() if isinstance(value, Tokens)), default=0)
    starts = range(0, longest, max_length) if split and longest else range(1)
    return [
        {n: _part(v, start, max_length) if isinstance(v, Tokens) else v for n, v in example.items()} for start in starts
    ]


def _part(tokens: Tokens, start: int, length: int) -> Tokens:
    weights = list(tokens.loss_weights[start : start + length])
    return Tokens(list(tokens.ids[start : start + length]), [0.0, *weights[1:]])
