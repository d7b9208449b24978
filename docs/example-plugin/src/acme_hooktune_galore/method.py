"""GaLore (Zhao et al. 2024, https://arxiv.org/abs/2403.03507) as a method: which weights it is for."""

from __future__ import annotations

import torch
from torch import nn

from acme_hooktune_galore.optimizer import Projected
from acme_hooktune_galore.options import GaLoreOptions
from core.api import Context, Method, Optim, UserError


class GaLore(Method):
    """Every weight takes gradients; those of the blocks' matrices reach the run's optimizer projected."""

    saves = "model"

    def __init__(self, options: GaLoreOptions) -> None:
        self.options = options

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Let every weight of ``model`` take gradients.

        Raises:
            UserError: no matrix is large enough to be projected.
        """
        self.matrices(model, context)
        return model.requires_grad_(True)

    def optimizer(self, model: nn.Module, optim: Optim, context: Context) -> torch.optim.Optimizer:
        """The run's own optimizer, whichever it is, with stand-ins in place of the matrices."""
        matrices = self.matrices(model, context)
        taken = {id(matrix) for matrix in matrices}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
        o = self.options
        return Projected(optim.build, matrices, rest, rank=o.rank, update_every=o.update_every, scale=o.scale)

    def matrices(self, model: nn.Module, context: Context) -> list[nn.Parameter]:
        """The weights (M, N) within blocks, as in the paper: attention and feed-forward, not what is before or after.

        A matrix with ``rank`` rows or columns is none of them: its basis would be square, which saves nothing.

        Raises:
            UserError: there are none.
        """
        inside = [p for block in context.facts.blocks for p in model.get_submodule(block).parameters() if p.ndim == 2]
        found = [p for p in inside if min(p.shape) > self.options.rank]
        if not found:
            widest = max((min(p.shape) for p in inside), default=0)
            if widest < 2:
                raise UserError(f"{context.facts.architecture} has no blocks with matrices to project", "method=full")
            raise UserError(
                f"method.rank={self.options.rank} leaves nothing to project: no matrix has more rows and columns",
                f"method.rank={widest // 2}, or method=full",
            )
        return found
