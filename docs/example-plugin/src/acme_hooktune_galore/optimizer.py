"""GaLore's step around any optimizer (Zhao et al. 2024, https://arxiv.org/abs/2403.03507, algorithms 1 and 2).

Each weight matrix has a stand-in, of which the run's optimizer takes care instead: the stand-in's gradient is the
matrix' gradient in a few directions, its value is zero before a step and the update after it.

Shapes: S and L the shorter and the longer side of a weight, which is taken transposed where it has more rows than
columns (the paper's m <= n always holds then); R directions, at most S.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from acme_hooktune_galore.subspace import compact_zeros, find_basis, wide

Build = Callable[[Sequence[Mapping[str, Any]]], torch.optim.Optimizer]


class Projected(torch.optim.Optimizer):
    """One optimizer over ``matrices``, projected, and ``rest``, as they are.

    Its groups hold the weights themselves, so schedules, clipping and gradient scaling see a usual optimizer. Its state
    is the bases and, under ``inner`` in the state dict, all of the inner optimizer's.

    Args:
        build: ``core.api.Optim.build``.
        matrices: Weights of two dimensions.
        rest: All other weights.
        rank: R, unless a matrix has a shorter side.
        update_every: Steps of a matrix between two choices of its basis.
        scale: What updates of matrices are multiplied with.
    """

    def __init__(
        self,
        build: Build,
        matrices: Sequence[Tensor],
        rest: Sequence[Tensor],
        *,
        rank: int,
        update_every: int,
        scale: float,
    ) -> None:
        self.rank, self.update_every, self.scale = rank, update_every, scale
        self.stand_ins = {weight: nn.Parameter(compact_zeros(weight, rank)) for weight in matrices}
        groups = [{"params": list(weights)} for weights in (self.stand_ins.values(), rest) if weights]
        self.inner = build(groups)
        weights = {stand_in: weight for weight, stand_in in self.stand_ins.items()}
        # an optimizer may divide groups further (decay or none): its own groups are what counts
        own = [dict(group, params=[weights.get(p, p) for p in group["params"]]) for group in self.inner.param_groups]
        super().__init__(own, dict(self.inner.defaults))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Make one step (algorithm 1); a weight without a gradient stays as it is.

        Raises:
            UserError: the gradient that a basis is made from is not finite.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = list(zip(self.param_groups, self.inner.param_groups, strict=True))
        for own, inner in groups:
            _copy_values(own, inner)  # a schedule moved the rate
        moving = {weight: stand_in for weight, stand_in in self.stand_ins.items() if weight.grad is not None}
        for weight, stand_in in moving.items():
            stand_in.grad = self._project(weight)
        self.inner.step()
        for own, inner in groups:
            _copy_values(inner, own)  # some optimizers count in their groups
            for weight in own["params"]:
                if weight in moving:
                    self._project_back(weight, moving[weight], own["lr"] * own.get("weight_decay", 0.0))
        return loss

    def _project(self, weight: Tensor) -> Tensor:
        """The gradient in the directions of the basis (R, L), which is made anew when it is time (algorithm 2)."""
        state, grad_SL = self.state[weight], wide(cast(Tensor, weight.grad))
        state["steps"] = state.get("steps", 0)
        if state["steps"] % self.update_every == 0:
            state["basis"] = find_basis(grad_SL, self.rank)
        state["steps"] += 1
        basis_SR: Tensor = state["basis"]
        return basis_SR.T @ grad_SL

    def _project_back(self, weight: Tensor, stand_in: nn.Parameter, decay: float) -> None:
        """Move a weight by what its stand-in moved, and make the stand-in ready for the next step."""
        # the inner optimizer's decay finds zeros, so the weight's own is done here, in AdamW's order
        weight.mul_(1 - decay)
        basis_SR: Tensor = self.state[weight]["basis"]
        wide(weight).addmm_(basis_SR, stand_in, alpha=self.scale)
        stand_in.zero_()
        stand_in.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Bases and step numbers, groups, and the inner optimizer's own."""
        return {**super().state_dict(), "inner": self.inner.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Put back what ``state_dict`` gave."""
        own = dict(state_dict)
        self.inner.load_state_dict(own.pop("inner"))
        super().load_state_dict(own)


def _copy_values(source: Mapping[str, Any], target: dict[str, Any]) -> None:
    """All of a group but its parameters."""
    target.update({name: value for name, value in source.items() if name != "params"})
