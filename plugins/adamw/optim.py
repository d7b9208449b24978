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
        copies = [dict(group, params=list(group["params"])) for group in groups]
        # an adapter's weights are hundreds of small tensors: one kernel instead of ten a tensor; on GPUs torch itself
        # chooses well
        fused = all(p.device.type == "cpu" for group in copies for p in group["params"])
        optimizer = torch.optim.AdamW(
            copies,
            lr=self.lr,
            betas=(o.betas[0], o.betas[1]),
            eps=o.eps,
            weight_decay=o.weight_decay,
            fused=fused or None,
        )
        if fused:
            # Lightning clips no optimizer that could undo the scaling of float16 itself; on CPUs nothing is scaled
            setattr(optimizer, "_step_supports_amp_scaling", False)  # noqa: B010  # no attribute torch declares
        return optimizer
