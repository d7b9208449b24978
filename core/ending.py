"""What a model does to the output layer's product before it is logits.

Shapes: C tokens of a chunk, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ending:
    """What a model does to the output layer's product before it is logits.

    Attributes:
        scale: Factor.
        cap: ``cap * tanh(logits / cap)`` when not None.
        plain: Nothing of the kind reproduces the model: let it make the logits itself.
    """

    scale: float = 1.0
    cap: float | None = None
    plain: bool = False

    def __call__(self, product_CV: Tensor) -> Tensor:
        """Float32 logits."""
        logits_CV = product_CV.float()
        if self.scale != 1.0:
            logits_CV = logits_CV * self.scale
        return logits_CV if self.cap is None else self.cap * torch.tanh(logits_CV / self.cap)

    def slope(self, logits: Tensor) -> Tensor:
        """Derivative of the logits by the product, given the logits."""
        slope = torch.full_like(logits, self.scale)
        return slope if self.cap is None else slope * (1 - (logits / self.cap) ** 2)


def candidates(config: Any) -> list[Ending]:
    """As it is, or with the scaling and the soft cap that architectures name in their config."""
    config = config.get_text_config()
    scales = [1.0]
    if getattr(config, "logits_scaling", None):  # Granite divides
        scales.append(1 / config.logits_scaling)
    if getattr(config, "logit_scale", None):  # Cohere multiplies
        scales.append(config.logit_scale)
    caps = [None, getattr(config, "final_logit_softcapping", None)]  # Gemma
    return [Ending(scale, cap) for scale in scales for cap in dict.fromkeys(caps)]
