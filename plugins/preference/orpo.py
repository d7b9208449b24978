"""Odds ratio preference optimization (Hong et al. 2024, https://arxiv.org/abs/2403.07691, equations 6 and 7).

Shapes: B pairs of a batch, N supervised tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from transformers import PreTrainedTokenizerBase

from core.api import Batch, Example, Loss, Row, Tokens, token_logprobs
from plugins.preference.options import ORPOOptions
from plugins.preference.pairs import Pairs, likelihood, measures

PROMPT = 2.0
"""Weight that marks a token of the prompt, where the prompt is learned too."""


class ORPO(Pairs):
    """``-log p(chosen)`` per token, minus ``beta log sigmoid(log odds(chosen) - log odds(rejected))``, no reference."""

    def __init__(self, options: ORPOOptions) -> None:
        self.options = options

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Example:
        """``chosen`` and ``rejected``; with ``nll=batch`` the prompt of the chosen one is marked, for it is learned.

        Raises:
            RowError: as for every pair.
        """
        example = dict(super().encode(row, tokenizer))
        chosen = example["chosen"]
        if self.options.nll == "batch" and isinstance(chosen, Tokens):
            start = next(i for i, weight in enumerate(chosen.loss_weights) if weight)
            example["chosen"] = Tokens(chosen.ids, [PROMPT] * start + list(chosen.loss_weights[start:]))
        return example

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """The sum over the pairs."""
        o = self.options
        result = token_logprobs(model, batch, also=("entropy",))
        answers_N = (result.loss_weights_N == 1).float()
        chosen_B, rejected_B = result.mean("chosen", answers_N), result.mean("rejected", answers_N)
        log_odds_B = (chosen_B - rejected_B) - (_log1mexp(chosen_B) - _log1mexp(rejected_B))
        nll = likelihood(result, answers_N, torch.ones_like(answers_N), o.nll)
        logged = measures(result, chosen_B, rejected_B, o.beta * chosen_B, o.beta * rejected_B)
        logged["nll"] = (nll.detach(), batch.size)
        logged["log_odds"] = (log_odds_B.detach().sum(), batch.size)
        return Loss(nll - o.beta * logsigmoid(log_odds_B).sum(), batch.size, logged)


def _log1mexp(x_B: Tensor) -> Tensor:
    """``log(1 - exp(x))`` for x < 0, by the form that is exact on either side of ``-log 2`` (Maechler 2012)."""
    return torch.where(x_B < -math.log(2), torch.log1p(-x_B.exp()), torch.log(-torch.expm1(x_B)))
