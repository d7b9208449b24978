"""Output layer and log-probability in one, a slice of the vocabulary at a time.

No logits are kept: a softmax is a running maximum and a running sum, and so is the gradient of each token's
log-probability, up to a factor that is known on the way back (the idea of Milakov and Gimelshein 2018,
https://arxiv.org/abs/1805.02867, and of FlashAttention). A slice stays in the processor's cache, and where the layer is
frozen its products are computed twice in place of three times.

Shapes: N supervised tokens, H hidden width, V vocabulary, S a slice of it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor, nn

from core.ending import Ending

SLICE_BYTES = 8_000_000
"""Of the logits of a slice, float32: larger ones fall out of the cache."""


def fits(head: nn.Module) -> bool:
    """Whether this output layer is a plain product with a dense weight."""
    if type(head) is not nn.Linear or getattr(head, "bias", None) is not None:
        return False
    return head.weight.is_floating_point()


def token_distribution(
    hidden_NH: Tensor, targets_N: Tensor, head: nn.Module, ending: Ending, entropy: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability of each target, logarithm of the normaliser, and entropy.

    Args:
        hidden_NH: What goes into the output layer.
        targets_N: Token ids.
        head: The output layer, for which ``fits`` holds.
        ending: What happens to its product.
        entropy: Whether that is wanted; it has no gradient, and is zero if it is not.

    Returns:
        Three of (N,), float32, nats.
    """
    found: Any = _Distribution.apply(hidden_NH, targets_N, head.weight, ending, entropy)
    return found


class _Distribution(torch.autograd.Function):
    """Where the weight is frozen the gradient is made ahead, else each slice is computed again on the way back."""

    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, targets_N: Tensor, weight_VH: Tensor, ending: Ending, entropy: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        device = hidden_NH.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VH.dtype
        ctx.ending, ctx.given = ending, hidden_NH.dtype
        ctx.ahead = ctx.needs_input_grad[0] and not ctx.needs_input_grad[2]
        with torch.autocast(device, enabled=False):
            inputs_NH = hidden_NH.to(dtype)
            running = Running(inputs_NH, targets_N, ctx.ahead, entropy)
            for at, slice_SH in _slices(weight_VH, len(targets_N)):
                running.take(at, slice_SH.to(dtype), ending)
        normalisers_N = running.largest_N + running.sum_N.log()
        logprobs_N = running.target_N - normalisers_N
        entropy_N = running.sum_N.log() - running.weighted_N / running.sum_N if entropy else running.weighted_N
        if ctx.ahead:
            others_NH = running.others_NH.div_(running.sum_N[:, None])
            ctx.save_for_backward(others_NH, targets_N, weight_VH, logprobs_N, running.target_N)
        else:
            ctx.save_for_backward(inputs_NH, targets_N, weight_VH, normalisers_N)
        ctx.mark_non_differentiable(entropy_N)
        return logprobs_N, normalisers_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        logprobs_N, normalisers_N, _ = gradients
        with torch.autocast(logprobs_N.device.type, enabled=False):
            one_way = _ahead if ctx.ahead else _again
            hidden_NH, weight_VH = one_way(ctx, logprobs_N, normalisers_N)
        return hidden_NH.to(ctx.given), None, weight_VH, None, None


class Running:
    """Sums over the slices seen so far, relative to the largest logit seen.

    Attributes:
        largest_N: That logit.
        sum_N: Of exponentials.
        weighted_N: Of exponentials times their exponents, for the entropy.
        target_N: The target's logit.
        others_NH: Of the weights of all tokens but the target times their exponentials: its own share, one minus its
            probability, would be rounded away.
    """

    def __init__(self, inputs_NH: Tensor, targets_N: Tensor, ahead: bool, entropy: bool) -> None:
        self.inputs_NH, self.targets_N, self.ahead, self.entropy = inputs_NH, targets_N, ahead, entropy
        self.sum_N = inputs_NH.new_zeros(len(targets_N), dtype=torch.float32)
        self.weighted_N, self.target_N = self.sum_N.clone(), self.sum_N.clone()
        self.largest_N = self.sum_N - torch.finfo(torch.float32).max
        self.others_NH = inputs_NH.new_zeros(inputs_NH.shape if ahead else (0, 0), dtype=torch.float32)

    def take(self, at: int, slice_SH: Tensor, ending: Ending) -> None:
        """Add the tokens from ``at`` on."""
        logits_NS = ending(self.inputs_NH @ slice_SH.T)
        inside_N1, columns_N1 = _columns(self.targets_N, at, len(slice_SH))
        self.target_N = torch.where(inside_N1, logits_NS.gather(1, columns_N1), self.target_N[:, None])[:, 0]
        largest_N = torch.maximum(self.largest_N, logits_NS.amax(1))
        shrink_N = (self.largest_N - largest_N).exp()
        slopes_NS = ending.slope(logits_NS) if self.ahead and ending.cap is not None else None
        if self.entropy:
            self.weighted_N = shrink_N * (self.weighted_N + self.sum_N * (self.largest_N - largest_N).clamp(min=-1e4))
        shifted_NS = logits_NS.sub_(largest_N[:, None])
        exps_NS = shifted_NS.exp() if self.entropy else shifted_NS.exp_()
        self.largest_N = largest_N
        self.sum_N = self.sum_N * shrink_N + exps_NS.sum(1)
        if self.entropy:
            self.weighted_N += shifted_NS.mul_(exps_NS).sum(1)
        if self.ahead:
            exps_NS = exps_NS if slopes_NS is None else exps_NS.mul_(slopes_NS)
            exps_NS.scatter_(1, columns_N1, exps_NS.gather(1, columns_N1).masked_fill_(inside_N1, 0.0))
            self.others_NH.mul_(shrink_N[:, None]).add_(exps_NS.to(slice_SH.dtype) @ slice_SH)


def _ahead(ctx: Any, logprobs_N: Tensor, normalisers_N: Tensor) -> tuple[Tensor, None]:
    """What the forward made, times the gradients."""
    others_NH, targets_N, weight_VH, found_N, target_N = ctx.saved_tensors
    ending: Ending = ctx.ending
    slope_N = ending.slope(target_N)
    others = (normalisers_N - logprobs_N)[:, None] * others_NH
    if ending.cap is None:  # else the slopes are in the sum already
        others *= ending.scale
    own_N = slope_N * (normalisers_N * found_N.exp() - logprobs_N * found_N.expm1())
    return others + own_N[:, None] * weight_VH[targets_N].float(), None


def _again(ctx: Any, logprobs_N: Tensor, normalisers_N: Tensor) -> tuple[Tensor, Tensor | None]:
    """Each slice once more, for the inputs and for the weight."""
    inputs_NH, targets_N, weight_VH, found_N = ctx.saved_tensors
    ending: Ending = ctx.ending
    hidden_NH = inputs_NH.new_zeros(inputs_NH.shape, dtype=torch.float32)
    gradient_VH = torch.empty_like(weight_VH) if ctx.needs_input_grad[2] else None
    for at, slice_SH in _slices(weight_VH, len(targets_N)):
        slice_SH = slice_SH.to(inputs_NH.dtype)
        logits_NS = ending(inputs_NH @ slice_SH.T)
        slopes_NS = ending.slope(logits_NS) if ending.cap is not None else ending.scale
        inside_N1, columns_N1 = _columns(targets_N, at, len(slice_SH))
        found_NS = logits_NS.sub_(found_N[:, None]).exp_().mul_((normalisers_N - logprobs_N)[:, None])
        found_NS.scatter_add_(1, columns_N1, torch.where(inside_N1, logprobs_N[:, None], 0.0))
        flowing_NS = found_NS.mul_(slopes_NS).to(inputs_NH.dtype)
        hidden_NH += flowing_NS @ slice_SH
        if gradient_VH is not None:
            gradient_VH[at : at + len(slice_SH)] = flowing_NS.T @ inputs_NH
    return hidden_NH, gradient_VH


def _columns(targets_N: Tensor, at: int, width: int) -> tuple[Tensor, Tensor]:
    """Whether each target is in the slice that begins at ``at``, and its column there."""
    columns_N1 = (targets_N - at)[:, None]
    return (columns_N1 >= 0) & (columns_N1 < width), columns_N1.clamp(0, width - 1)


def _slices(weight_VH: Tensor, rows: int) -> Generator[tuple[int, Tensor]]:
    width = max(256, SLICE_BYTES // (4 * max(1, rows)) // 64 * 64)
    for at in range(0, len(weight_VH), width):
        yield at, weight_VH[at : at + width]
