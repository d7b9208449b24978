"""AdamW (Loshchilov and Hutter 2017, https://arxiv.org/abs/1711.05101, algorithm 2) as torch has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from core.api import Optim
from plugins.adamw.options import AdamWOptions


class AdamW(Optim):
    """torch.optim.AdamW."""

    def __init__(self, options: AdamWOptions) -> None:
        self.options = options
        self.lr = options.lr

    def build(self, groups: Sequence[Mapping[str, Any]]) -> torch.optim.Optimizer:
        """Over torch's parameter groups; a group without ``lr`` gets the option's."""
        o = self.options
        return torch.optim.AdamW(
            [dict(group) for group in groups],
            lr=self.lr,
            betas=(o.betas[0], o.betas[1]),
            eps=o.eps,
            weight_decay=o.weight_decay,
        )
