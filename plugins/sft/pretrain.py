"""Every token of a text is learned."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import nn
from transformers import PreTrainedTokenizerBase

from core.api import Batch, Example, Loss, Objective, Row, RowError, Tokens
from plugins.sft.cross_entropy import cross_entropy
from plugins.sft.options import PretrainOptions


class Pretrain(Objective):
    """``-sum_N log p(token | all before)`` over texts, each ended; long ones go on in further sequences."""

    columns: ClassVar[frozenset[str]] = frozenset({"text"})
    optional: ClassVar[frozenset[str] | None] = frozenset()
    too_long: ClassVar[Literal["cut", "split"]] = "split"

    def __init__(self, options: PretrainOptions) -> None:
        self.options = options

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Example:
        """The text as the tokenizer begins it, and the end token where there is one.

        Raises:
            RowError: the text is empty, or is none.
        """
        text: Any = row["text"]
        if not isinstance(text, str):
            raise RowError("text", "is not text")
        if not text.strip():
            raise RowError("text", "is empty")
        ids: list[int] = tokenizer(text)["input_ids"]  # pyright: ignore[reportAssignmentType]
        end: Any = tokenizer.eos_token_id
        if end is not None and ids[-1] != end:
            ids = [*ids, end]
        return {"text": Tokens(ids, [1.0] * len(ids))}

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """The sum over all tokens but each sequence's first, and their number."""
        return cross_entropy(model, batch, self.options)
