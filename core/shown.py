"""Examples to look at: what is trained, said piece by piece, with the place it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.contracts import Tokens
from core.data import Encoded
from core.pieces import Piece, pieces
from core.plan import Plan


@dataclass(frozen=True)
class ShownSequence:
    """One named sequence of an example.

    Attributes:
        name: The objective's name for it.
        pieces: All of it.
        tokens: Their number.
        supervised: Those with a loss weight.
        note: What is not all of the row, or ``""``.
    """

    name: str
    pieces: Sequence[Piece]
    tokens: int
    supervised: int
    note: str

    @property
    def counts(self) -> str:
        """Its numbers in words."""
        return f"{self.tokens:,} tokens, {self.supervised:,} supervised"


@dataclass(frozen=True)
class ShownExample:
    """One example.

    Attributes:
        origin: Where its row came from, such as ``train.jsonl:17``.
        sequences: In the objective's order.
        numbers: What else the objective made of the row, such as a label.
    """

    origin: str
    sequences: Sequence[ShownSequence]
    numbers: Mapping[str, float]


def shown(plan: Plan, encoded: Encoded, number: int) -> Iterator[ShownExample]:
    """The first examples of a side, as they are trained on."""
    for index, example in enumerate(encoded.examples[:number]):
        sequences = [
            ShownSequence(
                name,
                list(pieces(value, plan.tokenizer)),
                len(value.ids),
                sum(1 for weight in value.loss_weights if weight),
                _note(plan, encoded, index, name),
            )
            for name, value in example.items()
            if isinstance(value, Tokens)
        ]
        numbers = {name: value for name, value in example.items() if not isinstance(value, Tokens)}
        yield ShownExample(encoded.origins[encoded.owners[index]], sequences, numbers)


def _note(plan: Plan, encoded: Encoded, index: int, name: str) -> str:
    """What of the row is not in this example: encoded once more, it is as long as it was before it was cut."""
    if plan.objective.too_long == "split":
        parts = np.flatnonzero(np.asarray(encoded.owners) == encoded.owners[index])
        return f"part {index - parts[0] + 1} of {len(parts)} of the row" if len(parts) > 1 else ""
    whole = plan.objective.encode(encoded.rows[encoded.owners[index]], plan.tokenizer)[name]
    left = len(whole.ids) - plan.options.max_length if isinstance(whole, Tokens) else 0
    return f"cut: {left:,} more tokens lie behind data.max_length={plan.options.max_length}" if left > 0 else ""
