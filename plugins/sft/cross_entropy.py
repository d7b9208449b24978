"""Weighted cross-entropy of a batch's supervised tokens.

Shapes: N supervised tokens of a batch.
"""

from __future__ import annotations

from torch import nn

from core.api import Batch, Loss, token_logprobs
from plugins.sft.options import PretrainOptions


def cross_entropy(model: nn.Module, batch: Batch, options: PretrainOptions) -> Loss:
    """The weighted sum over the tokens and the sum of their weights.

    ``(1 - e) (-log p(token)) + e (mean over the vocabulary of -log p) + z (log sum exp of the logits)^2``: label
    smoothing is Szegedy et al. 2016 (https://arxiv.org/abs/1512.00567, equation 8), the z-loss PaLM's
    (https://arxiv.org/abs/2204.02311, section 5). Smoothing and z-loss act in training only, so that what is measured
    on held-out rows can be compared.
    """
    smoothing, z = (options.label_smoothing, options.z_loss) if model.training else (0.0, 0.0)
    also = [name for name, wanted in (("uniform", smoothing), ("logsumexp", z)) if wanted]
    result = token_logprobs(model, batch, also, neftune_alpha=options.neftune_alpha)
    losses_N = -result.logprobs_N
    if result.uniform_N is not None:
        losses_N = (1 - smoothing) * losses_N - smoothing * result.uniform_N
    if result.logsumexp_N is not None:
        losses_N = losses_N + z * result.logsumexp_N**2
    return Loss((losses_N * result.loss_weights_N).sum(), result.loss_weights_N.sum())
