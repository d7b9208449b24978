"""Direct preference optimization (Rafailov et al. 2023, https://arxiv.org/abs/2305.18290, equation 7) and kin.

Shapes: B pairs of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from core.api import Batch, LogProbs, Loss, token_logprobs
from plugins.preference.options import DPOOptions
from plugins.preference.pairs import Pairs, losses, measures


class DPO(Pairs):
    """``-log sigmoid(beta (log p(chosen)/q(chosen) - log p(rejected)/q(rejected)))``; q is the model before training.

    ``ipo`` is Azar et al. 2023 (https://arxiv.org/abs/2310.12036, equation 17), per token as its authors advise;
    ``hinge`` is SLiC (https://arxiv.org/abs/2305.10425) on the same margin; ``robust`` is Chowdhury et al. 2024
    (https://arxiv.org/abs/2403.00409, equation 9).
    """

    def __init__(self, options: DPOOptions) -> None:
        self.options = options

    def reference(self, logprobs: LogProbs) -> Mapping[str, Tensor]:
        """Log-probability of either answer under the model before training."""
        return {f"reference_{name}": logprobs.sum(name) for name in ("chosen", "rejected")}

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """The sum over the pairs."""
        o = self.options
        result = token_logprobs(model, batch, also=("entropy",))
        chosen_B, rejected_B = result.sum("chosen"), result.sum("rejected")
        ratio_chosen_B = chosen_B - batch.numbers["reference_chosen"]
        ratio_rejected_B = rejected_B - batch.numbers["reference_rejected"]
        logged = measures(result, chosen_B, rejected_B, o.beta * ratio_chosen_B, o.beta * ratio_rejected_B)
        if o.length_normalised or o.loss == "ipo":
            ratio_chosen_B = ratio_chosen_B / result.weight("chosen")
            ratio_rejected_B = ratio_rejected_B / result.weight("rejected")
        losses_B = self._losses(ratio_chosen_B - ratio_rejected_B)
        return Loss(losses_B.sum(), batch.size, logged)

    def _losses(self, margin_B: Tensor) -> Tensor:
        o = self.options
        if o.loss == "robust":
            wrong = o.label_smoothing
            right_B, flipped_B = logsigmoid(o.beta * margin_B), logsigmoid(-o.beta * margin_B)
            return (-(1 - wrong) * right_B + wrong * flipped_B) / (1 - 2 * wrong)
        return losses(o.loss, margin_B, o.beta, o.label_smoothing)
