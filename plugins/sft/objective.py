"""Cross-entropy of the answers' tokens.

Shapes: N supervised tokens of a batch.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import nn
from transformers import PreTrainedTokenizerBase

from core.api import (
    Batch,
    Example,
    Loss,
    Objective,
    Row,
    RowError,
    Tokens,
    chat_tokens,
    completion_tokens,
    token_logprobs,
)
from plugins.sft.options import SFTOptions


class SFT(Objective):
    """``-sum_N w log p(token | all before)``, over the supervised tokens of the step."""

    columns: ClassVar[frozenset[str]] = frozenset({"messages|completion"})

    def __init__(self, options: SFTOptions) -> None:
        self.options = options

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Example:
        """One sequence, of which the assistant's text and its end token are supervised.

        Raises:
            RowError: the row holds no answer, or its weight is no number.
        """
        if row.get("messages") is not None:
            tokens = chat_tokens(tokenizer, row["messages"], tools=row.get("tools"))
        else:
            tokens = completion_tokens(tokenizer, row.get("prompt") or "", row["completion"])
        weight = row.get("weight")
        return {"completion": tokens if weight in (None, "") else _weighted(tokens, weight)}

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """The sum of the negative log-probabilities and the sum of their weights."""
        result = token_logprobs(model, batch)
        return Loss(-(result.logprobs_N * result.loss_weights_N).sum(), result.loss_weights_N.sum())


def _weighted(tokens: Tokens, weight: Any) -> Tokens:
    """A row counts ``weight`` times in the mean; text is what a csv file has."""
    try:
        factor = float(weight)
    except (TypeError, ValueError):
        factor = math.nan
    if not 0 < factor < math.inf:
        raise RowError("weight", f"is {weight!r}, not a number above 0")
    return Tokens(tokens.ids, [factor * w for w in tokens.loss_weights])
