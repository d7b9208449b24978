"""Causal attention of one sequence in bfloat16 on a CPU.

torch's CPU kernel computes its products in float32, or goes back through bfloat16 at a third of that speed; the
processor's own bfloat16 products are four times as fast. So those are used here, a block of queries at a time, with the
softmax in float32. Of a short sequence the probabilities are kept for the way back; of a longer one, where they would
be the most of all that is kept, they are computed again.

Shapes: T tokens, Q of them that ask, H heads, K heads of keys, G = H / K heads of queries for each, D head width. A
block has R queries of each head, so M = R * G for a head of keys, and sees C keys.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

BLOCK = 128
"""Queries of a block, at most: what lies after its last one is never computed."""
KEPT = 256
"""Tokens of a sequence up to which its probabilities are kept: little beside a layer's other tensors."""


def causal_attention(query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None = None) -> Tensor:
    """Each token attends to those up to itself.

    Args:
        query: (Q, H, D), bfloat16: of the last Q tokens.
        key: (T, K, D); each head of it serves G heads of queries in a row.
        value: (T, K, D).
        scaling: Of the scores.
        window: How many tokens back each sees, itself included; None: all.

    Returns:
        (Q, H, D)
    """
    found: Any = _CausalAttention.apply(query, key, value, scaling, window)
    return found


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query_QHD: Tensor, key_TKD: Tensor, value_TKD: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        key_KTD, value_KTD = key_TKD.transpose(0, 1), value_TKD.transpose(0, 1)
        scaled_KQGD = _by_key(query_QHD, len(key_KTD)).mul(scaling)
        out_QHD = torch.empty_like(query_QHD)
        out_KQGD = _by_key(out_QHD, len(key_KTD))
        kept: list[Tensor] = []
        for start, end, seen in _blocks(len(query_QHD), len(key_TKD), window):
            shares_KMC = _shares(scaled_KQGD[:, start:end], key_KTD[:, seen], window)
            block_KMD = torch.bmm(shares_KMC, value_KTD[:, seen])
            out_KQGD[:, start:end] = block_KMD.unflatten(1, (end - start, -1))
            if len(key_TKD) <= KEPT:
                kept.append(shares_KMC)
        ctx.save_for_backward(scaled_KQGD, key_TKD, value_TKD, *kept)
        ctx.scaling, ctx.window = scaling, window
        return out_QHD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        scaled_KQGD, key_TKD, value_TKD, *kept = ctx.saved_tensors
        key_KTD, value_KTD = key_TKD.transpose(0, 1), value_TKD.transpose(0, 1)
        flowing_KQGD = _by_key(gradients[0], len(key_KTD)).contiguous()
        to_query_KQGD = torch.empty_like(scaled_KQGD)
        to_key, to_value = Total(key_KTD), Total(value_KTD)
        for block, (start, end, seen) in enumerate(_blocks(scaled_KQGD.shape[1], len(key_TKD), ctx.window)):
            queries_KRGD = scaled_KQGD[:, start:end]
            flowing_KMD = flowing_KQGD[:, start:end].flatten(1, 2)
            shares_KMC = kept[block] if kept else _shares(queries_KRGD, key_KTD[:, seen], ctx.window)
            to_value.add(seen, torch.bmm(shares_KMC.transpose(1, 2), flowing_KMD))
            to_shares_KMC = torch.bmm(flowing_KMD, value_KTD[:, seen].transpose(1, 2))
            to_scores_KMC = torch.ops.aten._softmax_backward_data(to_shares_KMC, shares_KMC, -1, shares_KMC.dtype)
            to_query_KQGD[:, start:end] = torch.bmm(to_scores_KMC, key_KTD[:, seen]).view(queries_KRGD.shape)
            to_key.add(seen, torch.bmm(to_scores_KMC.transpose(1, 2), queries_KRGD.flatten(1, 2)))
        to_query_QHD = to_query_KQGD.mul_(ctx.scaling).transpose(0, 1).flatten(1, 2)
        return to_query_QHD, to_key.found().transpose(0, 1), to_value.found().transpose(0, 1), None, None


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

    def found(self) -> Tensor:
        """In the dtype of what it is the gradient of."""
        assert self.sum is not None, "a sequence has a block at least"
        return self.sum.to(self.like.dtype)


def _by_key(query_QHD: Tensor, heads: int) -> Tensor:
    """(K, Q, G, D): the queries that a head of keys serves at a token lie together, so that a block is a slice."""
    return query_QHD.unflatten(1, (heads, -1)).transpose(0, 1)


def _blocks(queries: int, keys: int, window: int | None) -> Generator[tuple[int, int, slice]]:
    """First query, the one after the last, and the keys that are seen; the last query is of the last key's token."""
    size, before = math.ceil(queries / math.ceil(queries / BLOCK)), keys - queries
    for start in range(0, queries, size):
        end = min(start + size, queries)
        yield start, end, slice(0 if window is None else max(0, before + start - window + 1), before + end)


def _shares(block_KRGD: Tensor, key_KCD: Tensor, window: int | None) -> Tensor:
    """(K, M, C) how much each query takes of each key."""
    scores_KMC = torch.bmm(block_KRGD.flatten(1, 2), key_KCD.transpose(1, 2))
    queries, keys = block_KRGD.shape[1], key_KCD.shape[1]
    by_query = scores_KMC.view(*block_KRGD.shape[:3], keys)
    # of a tensor without data none is kept: it would mask nothing, without a word, once there is data
    unseen = _unseen if type(scores_KMC) is Tensor else _unseen.__wrapped__
    if window is None:  # what lies before the block is seen by all of it
        by_query[..., keys - queries :].add_(unseen(queries, queries, queries, scores_KMC.dtype))
    else:
        by_query.add_(unseen(queries, keys, window, scores_KMC.dtype))
    return scores_KMC.softmax(-1, dtype=torch.float32).to(block_KRGD.dtype)


@lru_cache(maxsize=512)
def _unseen(queries: int, keys: int, window: int, dtype: torch.dtype) -> Tensor:
    """(R, 1, C) minus infinity at keys after the query, or before its window; the last key is the last query's own."""
    everything = torch.ones(queries, keys, dtype=torch.bool)
    hidden = everything.triu(keys - queries + 1) | everything.tril(keys - queries - window)
    return torch.zeros(queries, keys, dtype=dtype).masked_fill_(hidden, float("-inf"))[:, None]
