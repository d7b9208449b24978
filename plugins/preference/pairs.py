"""What the objectives over pairs share: how a pair is encoded, and what is logged.

Shapes: B pairs of a batch, N supervised tokens of both answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, relu
from torch.nn.functional import logsigmoid
from transformers import PreTrainedTokenizerBase

from core.api import Example, LogProbs, Objective, Row, RowError, answer_tokens

Measures = dict[str, tuple[Tensor, Tensor | float]]


class Pairs(Objective):
    """Two sequences an example: the prompt with either answer, of which the answers are supervised."""

    columns: ClassVar[frozenset[str]] = frozenset({"chosen", "rejected"})
    optional: ClassVar[frozenset[str] | None] = frozenset({"prompt", "tools"})
    metric: ClassVar[str | None] = "preference"

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Example:
        """``chosen`` and ``rejected``.

        Raises:
            RowError: an answer is missing or empty, or both are the same.
        """
        if row["chosen"] == row["rejected"]:
            raise RowError("rejected", "is the same as chosen")
        chosen, rejected = (
            answer_tokens(tokenizer, row.get("prompt"), row[name], tools=row.get("tools"), name=name)
            for name in ("chosen", "rejected")
        )
        if chosen.ids == rejected.ids:
            raise RowError("rejected", "gives the same tokens as chosen")
        return {"chosen": chosen, "rejected": rejected}

    def check_examples(self, examples: Sequence[Example]) -> Iterable[str]:
        """Pairs of which another row says the opposite: together they teach nothing."""
        pairs: set[tuple[int, int]] = set()
        for example in examples:
            either: list[Any] = [example["chosen"], example["rejected"]]
            chosen, rejected = (hash(tuple(tokens.ids)) for tokens in either)
            pairs.add((chosen, rejected))
        if both := sum((rejected, chosen) in pairs for chosen, rejected in pairs) // 2:
            yield f"pairs that are there the other way round, too: {both:,}"


def losses(loss: str, margin_B: Tensor, beta: float, smoothing: float) -> Tensor:
    """(B,) loss of each pair by its name: ``sigmoid``, ``ipo`` or ``hinge``."""
    if loss == "ipo":
        return (margin_B - 1 / (2 * beta)) ** 2
    if loss == "hinge":
        return relu(1 - beta * margin_B)
    return smoothed(beta * margin_B, smoothing)


def smoothed(logits_B: Tensor, smoothing: float) -> Tensor:
    """(B,) ``-log sigmoid`` of labels that are wrong in a share ``smoothing`` of the pairs (cDPO, equation 3)."""
    return -(1 - smoothing) * logsigmoid(logits_B) - smoothing * logsigmoid(-logits_B)


def measures(
    result: LogProbs, chosen_B: Tensor, rejected_B: Tensor, rewards_chosen_B: Tensor, rewards_rejected_B: Tensor
) -> Measures:
    """What is logged beside the loss, under trl's names, as sums and their numbers; a tie is half right.

    Args:
        result: Log-probabilities of the batch, with entropy.
        chosen_B: Log-probability of each chosen answer.
        rejected_B: Of each rejected one.
        rewards_chosen_B: Implicit reward of each chosen answer.
        rewards_rejected_B: Of each rejected one.
    """
    pairs = float(len(chosen_B))
    with torch.no_grad():
        margins_B = (rewards_chosen_B - rewards_rejected_B).detach()
        found: Measures = {
            "rewards/chosen": (rewards_chosen_B.detach().sum(), pairs),
            "rewards/rejected": (rewards_rejected_B.detach().sum(), pairs),
            "rewards/margins": (margins_B.sum(), pairs),
            "rewards/accuracies": ((margins_B > 0).float().sum() + 0.5 * (margins_B == 0).sum(), pairs),
            "logps/chosen": (chosen_B.detach().sum(), pairs),
            "logps/rejected": (rejected_B.detach().sum(), pairs),
        }
        if result.entropy_N is not None:
            found["entropy"] = (result.entropy_N.sum(), float(len(result.entropy_N)))
    return found


def likelihood(result: LogProbs, answers_N: Tensor, everything_N: Tensor, mean: str) -> Tensor:
    """Sum over the pairs of the chosen answer's mean negative log-probability.

    Args:
        result: Log-probabilities of the batch.
        answers_N: 1.0 where a token is an answer's.
        everything_N: 1.0 where a token is counted when the mean is the batch's.
        mean: ``pair``: over the tokens of each answer, the same however rows are split into micro-batches. ``batch``:
            over the tokens of the micro-batch, as trl does, so that a long answer weighs more and accumulation changes
            the result slightly.
    """
    if mean == "pair":
        return -result.mean("chosen", answers_N).sum()
    total, tokens = result.sum("chosen", everything_N).sum(), result.weight("chosen", everything_N)
    return -total / tokens.sum() * len(tokens)
