"""Causal attention of one sequence in bfloat16 on a CPU.

torch's CPU kernel computes its products in float32, or goes back through bfloat16 at a third of that speed; the
processor's own bfloat16 products are four times as fast. So those are used here, a block of queries at a time, with the
softmax in float32, and the probabilities are computed again on the way back: nothing quadratic is kept.

Shapes: H heads, K heads of keys, G = H / K heads of queries for each, T tokens, D head width; a block has R queries of
each head, M = G * R for a head of keys, and sees C keys.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

BLOCK = 128
"""Queries of a block: what lies after its last one is never computed."""


def causal_attention(query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None = None) -> Tensor:
    """Each token attends to those up to itself.

    Args:
        query: (H, T, D), bfloat16.
        key: (K, T, D); each head of it serves G heads of queries in a row.
        value: (K, T, D).
        scaling: Of the scores.
        window: How many tokens back each sees, itself included; None: all.

    Returns:
        (H, T, D)
    """
    found: Any = _CausalAttention.apply(query, key, value, scaling, window)
    return found


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query_HTD: Tensor, key_KTD: Tensor, value_KTD: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        scaled_KGTD = _by_key(query_HTD, key_KTD) * scaling
        ctx.save_for_backward(scaled_KGTD, key_KTD, value_KTD)
        ctx.scaling, ctx.window = scaling, window
        blocks: list[Tensor] = []
        for start, end, left in _blocks(query_HTD.shape[1], window):
            shares_KMC = _shares(scaled_KGTD[:, :, start:end], key_KTD[:, left:end], window)
            block_KMD = torch.bmm(shares_KMC.to(value_KTD.dtype), value_KTD[:, left:end])
            blocks.append(block_KMD.view(len(query_HTD), end - start, -1))
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        scaled_KGTD, key_KTD, value_KTD = ctx.saved_tensors
        half = value_KTD.dtype
        flowing_KGTD = _by_key(gradients[0], key_KTD)
        to_query: list[Tensor] = []
        to_key, to_value = Total(key_KTD), Total(value_KTD)
        for start, end, left in _blocks(scaled_KGTD.shape[2], ctx.window):
            queries_KGRD, seen = scaled_KGTD[:, :, start:end], slice(left, end)
            flowing_KMD = flowing_KGTD[:, :, start:end].flatten(1, 2)
            shares_KMC = _shares(queries_KGRD, key_KTD[:, seen], ctx.window)
            to_value.add(seen, torch.bmm(shares_KMC.to(half).transpose(1, 2), flowing_KMD))
            to_shares_KMC = torch.bmm(flowing_KMD, value_KTD[:, seen].transpose(1, 2)).float()
            to_scores = torch.ops.aten._softmax_backward_data(to_shares_KMC, shares_KMC, -1, torch.float32)
            to_scores_KMC = to_scores.to(half)
            to_query.append(torch.bmm(to_scores_KMC, key_KTD[:, seen]).view(queries_KGRD.shape))
            to_key.add(seen, torch.bmm(to_scores_KMC.transpose(1, 2), queries_KGRD.flatten(1, 2)))
        to_query_HTD = torch.cat(to_query, 2).mul_(ctx.scaling).flatten(0, 1)
        return to_query_HTD, to_key.found(), to_value.found(), None, None


class Total:
    """A sum over blocks, in float32 when there are several."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.sum: Tensor | None = None

    def add(self, seen: slice, part_KCD: Tensor) -> None:
        """Add what a block gives to the tokens that it sees."""
        if self.sum is None and part_KCD.shape == self.like.shape:
            self.sum = part_KCD
            return
        if self.sum is None:
            self.sum = torch.zeros_like(self.like, dtype=torch.float32)
        self.sum[:, seen] += part_KCD

    def found(self) -> Tensor | None:
        """In the dtype of what it is the gradient of."""
        return None if self.sum is None else self.sum.to(self.like.dtype)


def _by_key(query_HTD: Tensor, key_KTD: Tensor) -> Tensor:
    """(K, G, T, D)"""
    return query_HTD.unflatten(0, (len(key_KTD), -1))


def _blocks(length: int, window: int | None) -> Generator[tuple[int, int, int]]:
    """First query, the one after the last, and the first key that is seen."""
    for start in range(0, length, BLOCK):
        yield start, min(start + BLOCK, length), 0 if window is None else max(0, start - window + 1)


def _shares(block_KGRD: Tensor, key_KCD: Tensor, window: int | None) -> Tensor:
    """(K, G * R, C) how much each query takes of each key, float32."""
    scores_KMC = torch.bmm(block_KGRD.flatten(1, 2), key_KCD.transpose(1, 2))
    queries, keys = block_KGRD.shape[2], key_KCD.shape[1]
    by_query = scores_KMC.view(*block_KGRD.shape[:3], keys)
    if window is None:  # what lies before the block is seen by all of it
        by_query[..., keys - queries :].masked_fill_(_unseen(queries, queries, queries), float("-inf"))
    else:
        by_query.masked_fill_(_unseen(queries, keys, window), float("-inf"))
    return scores_KMC.softmax(-1, dtype=torch.float32)


@lru_cache(maxsize=512)
def _unseen(queries: int, keys: int, window: int) -> Tensor:
    """(R, C) keys that come after the query, or before its window; the last key is the last query's own."""
    everything = torch.ones(queries, keys, dtype=torch.bool)
    return everything.triu(keys - queries + 1) | everything.tril(keys - queries - window)
