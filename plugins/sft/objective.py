"""Supervised fine-tuning: learn the answer, given the prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from torch import nn
from transformers import PreTrainedTokenizerBase

from core.api import Batch, Example, Loss, Objective, Row, RowError, Tokens, answer_tokens, chat_tokens
from plugins.sft.cross_entropy import cross_entropy
from plugins.sft.options import SFTOptions

NEVER = -1.0
"""Marks a message that is not learned at all, whatever ``prompt_weight`` is."""


class SFT(Objective):
    """``-sum_N w log p(token | all before)``, over the supervised tokens of the step."""

    columns: ClassVar[frozenset[str]] = frozenset({"messages|completion"})
    optional: ClassVar[frozenset[str] | None] = frozenset({"prompt", "tools", "weight"})

    def __init__(self, options: SFTOptions) -> None:
        self.options = options

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Example:
        """One sequence, of which the assistant's text and its end token are supervised.

        A message may have a ``weight`` of its own, as OpenAI's format has it; a row has one in its column ``weight``.
        A message of weight 0 is not learned at all; ``prompt_weight`` is for what is read and no answer.

        Raises:
            RowError: the row holds no answer, or a weight is no number.
        """
        if row.get("messages") is not None:
            weights = self._weights(row["messages"])
            tokens = chat_tokens(tokenizer, row["messages"], tools=row.get("tools"), weights=weights)
        else:
            tokens = answer_tokens(
                tokenizer, row.get("prompt"), row["completion"], tools=row.get("tools"), turns=self.options.turns
            )
        rest = self.options.prompt_weight
        weight = 1.0 if row.get("weight") in (None, "") else _number("weight", row["weight"], above_zero=True)
        return {"completion": Tokens(tokens.ids, [weight * (max(w, 0.0) if w else rest) for w in tokens.loss_weights])}

    def _weights(self, messages: Any) -> list[float] | None:
        """One a message; None where every assistant's counts the same."""
        if not isinstance(messages, Sequence) or not all(isinstance(message, Mapping) for message in messages):
            return None  # the template's check says what is wrong
        said = cast("Sequence[Mapping[str, Any]]", messages)
        given = [
            1.0 if message.get("weight") is None else _number(f"messages[{i}].weight", message["weight"])
            for i, message in enumerate(said)
        ]
        answers = [i for i, message in enumerate(said) if message.get("role") == "assistant"]
        learned = answers[-1:] if self.options.turns == "last" else answers
        unlearned = NEVER if self.options.prompt_weight else 0.0
        weights = [(weight if i in learned else 0.0) if weight else unlearned for i, weight in enumerate(given)]
        return None if weights == [float(i in answers) for i in range(len(said))] else weights

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """The sum of the negative log-probabilities and the sum of their weights."""
        return cross_entropy(model, batch, self.options)


def _number(field: str, value: Any, above_zero: bool = False) -> float:
    """A weight; text is what a csv file has."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf or (above_zero and not number):
        raise RowError(field, f"is {value!r}, not a number {'above 0' if above_zero else 'of 0 or more'}")
    return number
