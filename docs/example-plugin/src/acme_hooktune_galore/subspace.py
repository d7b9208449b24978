"""The directions in which a gradient is seen (Zhao et al. 2024, https://arxiv.org/abs/2403.03507, algorithm 2).

Shapes: S and L the shorter and the longer side of a matrix; R directions, at most S.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.api import UserError


def wide(matrix: Tensor) -> Tensor:
    """The matrix as (S, L), a view: the paper writes its algorithm for m <= n."""
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def compact_zeros(weight: Tensor, rank: int) -> Tensor:
    """Zeros (R, L) with the dtype and on the device of a weight (S, L) or (L, S)."""
    return weight.new_zeros(min(rank, *weight.shape), max(weight.shape))


def find_basis(grad_SL: Tensor, rank: int) -> Tensor:
    """The first left singular vectors, orthonormal columns (S, R): ``U, S, V = SVD(G_t)``, ``P_t = U[:, :r]``.

    Raises:
        UserError: the gradient is not finite.
    """
    precise = torch.promote_types(grad_SL.dtype, torch.float32)  # there is none in half precision
    try:
        vectors_SS = torch.linalg.svd(grad_SL.to(precise), full_matrices=False)[0]
    except torch.linalg.LinAlgError as error:
        raise UserError(
            "a gradient holds values that are not finite", "a lower optim.lr, or model.dtype=float32"
        ) from error
    # a slice would keep all S columns in memory and in the checkpoint
    return vectors_SS[:, :rank].to(grad_SL.dtype).clone(memory_format=torch.contiguous_format)
