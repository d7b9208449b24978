"""Log-probabilities of tokens from their logits, a chunk of the tokens at a time, for whatever layer makes them.

Shapes: N supervised tokens, C of them in a chunk, H hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CHUNK = 512
"""Supervised tokens whose logits exist at one time: 100 MB in float32 for a vocabulary of 49,152."""

EXTRA = ("uniform", "logsumexp", "entropy")
"""What can be had of a token's distribution beside the log-probability of the token."""


def of_logits(logits_CV: Tensor, targets_C: Tensor, wanted: Sequence[str]) -> tuple[Tensor, ...]:
    """(C,) log-probabilities, then one (C,) for each name in ``wanted``."""
    normaliser_C = logits_CV.logsumexp(1)
    found = [logits_CV.gather(1, targets_C[:, None])[:, 0] - normaliser_C]
    for name in wanted:
        if name == "uniform":
            found.append(logits_CV.mean(1) - normaliser_C)
        elif name == "logsumexp":
            found.append(normaliser_C)
        else:
            with torch.no_grad():
                logprobs_CV = logits_CV - normaliser_C[:, None]
                found.append(-(logprobs_CV.exp() * logprobs_CV).sum(1))
    return tuple(found)


def in_chunks(
    hidden_NH: Tensor, targets_N: Tensor, head: nn.Module, ending: Callable[[Tensor], Tensor], wanted: Sequence[str]
) -> tuple[Tensor, ...]:
    """(N,) log-probabilities, then one (N,) for each name in ``wanted``."""

    def chunk(hidden_CH: Tensor, targets_C: Tensor) -> tuple[Tensor, ...]:
        return of_logits(ending(product(head, hidden_CH)), targets_C, wanted)

    if len(targets_N) <= CHUNK:
        return chunk(hidden_NH, targets_N)
    pairs = zip(hidden_NH.split(CHUNK), targets_N.split(CHUNK), strict=True)
    if not torch.is_grad_enabled():
        found = [chunk(*pair) for pair in pairs]
    else:
        # logits of a chunk are made again on the way back, so that one chunk's exist at a time
        found = [cast("tuple[Tensor, ...]", checkpoint(chunk, *pair, use_reentrant=False)) for pair in pairs]
    return tuple(torch.cat(values) for values in zip(*found, strict=True))


def product(head: nn.Module, hidden_CH: Tensor) -> Tensor:
    """(C, V) of the output layer; some bodies (Mamba's) hand on float32 to one in half precision."""
    weight: Any = getattr(head, "weight", None)
    fits = not isinstance(weight, Tensor) or not weight.is_floating_point()
    return head(hidden_CH if fits else hidden_CH.to(weight.dtype))
