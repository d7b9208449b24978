"""Simple preference optimization (Meng et al. 2024, https://arxiv.org/abs/2405.14734, equation 6).

Shapes: B pairs of a batch.
"""

from __future__ import annotations

from torch import nn

from core.api import Batch, Loss, token_logprobs
from plugins.preference.options import SimPOOptions
from plugins.preference.pairs import Pairs, measures, smoothed


class SimPO(Pairs):
    """``-log sigmoid(beta (mean log p(chosen) - mean log p(rejected)) - margin)``, means over tokens, no reference."""

    def __init__(self, options: SimPOOptions) -> None:
        self.options = options

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """The sum over the pairs."""
        o = self.options
        result = token_logprobs(model, batch, also=("entropy",))
        chosen_B, rejected_B = result.mean("chosen"), result.mean("rejected")
        losses_B = smoothed(o.beta * (chosen_B - rejected_B) - o.margin, o.label_smoothing)
        logged = measures(result, chosen_B, rejected_B, o.beta * chosen_B, o.beta * rejected_B)
        return Loss(losses_B.sum(), batch.size, logged)
