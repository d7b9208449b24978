"""What a bottleneck adapter computes (Houlsby et al. 2019, https://arxiv.org/abs/1902.00751, section 2.1 and figure 2).

Shapes: B sequences, T tokens, D width of the hidden states, W width of the bottleneck.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """All that must be known to build an adapter before its weights are read.

    Attributes:
        hidden: D.
        bottleneck: W.
        activation: A key of ``ACTIVATIONS``.
        norm: ``none``, ``before`` the down projection or ``after`` the up projection.
        dropout: Share of the bottleneck's values dropped in training.
    """

    hidden: int
    bottleneck: int
    activation: str
    norm: str
    dropout: float


class Bottleneck(nn.Module):
    """``f(h) = N_after(U act(D N_before(h) + d) + u)``; the sum ``h + f(h)`` is made where it is put.

    It starts at zero, so that training starts at the base: U and u are zero. Under ``norm=after`` the norm's gain is
    zero instead, as a norm of nearly nothing would blow the first step up to full size. AdapterHub normalises the sum
    with h, which cannot start at the base. D is as torch leaves it, uniform with a deviation of ``1 / sqrt(3 D)``; at
    BERT's width that is 0.02, near the paper's 0.01.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.norm_before = nn.LayerNorm(shape.hidden) if shape.norm == "before" else nn.Identity()
        self.down = nn.Linear(shape.hidden, shape.bottleneck)
        self.activation = ACTIVATIONS[shape.activation]()
        self.dropout = nn.Dropout(shape.dropout)
        self.up = nn.Linear(shape.bottleneck, shape.hidden)
        self.norm_after = nn.LayerNorm(shape.hidden) if shape.norm == "after" else nn.Identity()
        nn.init.zeros_(self.up.bias)
        nn.init.zeros_(self.norm_after.weight if isinstance(self.norm_after, nn.LayerNorm) else self.up.weight)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """(B, T, D) the update f(h), in the weights' dtype or autocast's; leading axes may be others."""
        inner_BTW = self.down(self.norm_before(in_dtype_of(self.down.weight, hidden_BTD)))
        return self.norm_after(self.up(self.dropout(self.activation(inner_BTW))))


def in_dtype_of(weight: Tensor, hidden_BTD: Tensor) -> Tensor:
    """The hidden states in a dtype that ``weight`` can be multiplied with.

    Under autocast they are left alone: layers cast for themselves, and a float32 copy would be kept for the way back.
    """
    if torch.is_autocast_enabled(hidden_BTD.device.type):
        return hidden_BTD
    return hidden_BTD.to(weight.dtype)
