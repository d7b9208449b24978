"""Contrastive preference optimization (Xu et al. 2024, https://arxiv.org/abs/2401.08417, equation 5).

Shapes: B pairs of a batch, N supervised tokens.
"""

from __future__ import annotations

from torch import nn

from core.api import Batch, Loss, token_logprobs
from plugins.preference.options import CPOOptions
from plugins.preference.pairs import Pairs, likelihood, losses, measures


class CPO(Pairs):
    """``-log sigmoid(beta (log p(chosen) - log p(rejected)))`` and ``nll_weight`` times ``-log p(chosen)`` a token."""

    def __init__(self, options: CPOOptions) -> None:
        self.options = options

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """The sum over the pairs."""
        o = self.options
        result = token_logprobs(model, batch, also=("entropy",))
        score = result.mean if o.loss == "ipo" else result.sum
        chosen_B, rejected_B = score("chosen"), score("rejected")
        nll = likelihood(result, result.loss_weights_N, result.loss_weights_N, o.nll)
        logged = measures(result, chosen_B, rejected_B, o.beta * chosen_B, o.beta * rejected_B)
        logged["nll"] = (nll.detach(), batch.size)
        losses_B = losses(o.loss, chosen_B - rejected_B, o.beta, o.label_smoothing)
        return Loss(losses_B.sum() + o.nll_weight * nll, batch.size, logged)
