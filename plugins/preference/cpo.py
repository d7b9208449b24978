"""Contrastive preference optimization (Xu et al. 2024, https://arxiv.org/abs/2401.08417, equation 5).

Shapes: B pairs of a batch, N supervised tokens.
"""

from __future__ import annotations

from torch import Tensor, nn, relu

from core.api import Batch, Loss, token_logprobs
from plugins.preference.options import CPOOptions
from plugins.preference.pairs import Pairs, likelihood, measures, smoothed


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
        return Loss(self._losses(chosen_B - rejected_B).sum() + o.nll_weight * nll, batch.size, logged)

    def _losses(self, margin_B: Tensor) -> Tensor:
        o = self.options
        if o.loss == "ipo":
            return (margin_B - 1 / (2 * o.beta)) ** 2
        if o.loss == "hinge":
            return relu(1 - o.beta * margin_B)
        return smoothed(o.beta * margin_B, o.label_smoothing)
