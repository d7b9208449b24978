"""Causal attention of one sequence in bfloat16 on a CPU.

torch's CPU kernel computes its products in float32, or goes back through bfloat16 at a third of that speed; the
processor's own bfloat16 products are four times as fast. So those are used here, a block of queries at a time, with the
softmax in float32, and the probabilities are computed again on the way back: nothing quadratic is kept.

Shapes: H heads, K heads of keys, G = H / K queries of each, T tokens, D head width; a block has R queries and sees C
keys, from token L on.
"""

from __future__ import annotations

from collections.abc import Generator
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
        ctx.save_for_backward(query_HTD, key_KTD, value_KTD)
        ctx.scaling, ctx.window = scaling, window
        out_HTD = torch.empty_like(query_HTD)
        for start, end, left in _blocks(query_HTD.shape[1], window):
            block_KMD = _grouped(query_HTD[:, start:end], len(key_KTD)) * scaling
            shares_KMC = _shares(block_KMD, key_KTD[:, left:end], end - start, window)
            block_HRD = torch.bmm(shares_KMC.to(value_KTD.dtype), value_KTD[:, left:end])
            out_HTD[:, start:end] = block_HRD.view(len(query_HTD), end - start, -1)
        return out_HTD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        query_HTD, key_KTD, value_KTD = ctx.saved_tensors
        heads, half = len(key_KTD), value_KTD.dtype
        to_query = torch.empty_like(query_HTD)
        to_key = torch.zeros_like(key_KTD, dtype=torch.float32)
        to_value = torch.zeros_like(value_KTD, dtype=torch.float32)
        for start, end, left in _blocks(query_HTD.shape[1], ctx.window):
            seen = slice(left, end)
            block_KMD = _grouped(query_HTD[:, start:end], heads) * ctx.scaling
            flowing_KMD = _grouped(gradients[0][:, start:end], heads)
            shares_KMC = _shares(block_KMD, key_KTD[:, seen], end - start, ctx.window)
            to_value[:, seen] += torch.bmm(shares_KMC.to(half).transpose(1, 2), flowing_KMD)
            to_shares_KMC = torch.bmm(flowing_KMD, value_KTD[:, seen].transpose(1, 2)).float()
            to_scores_KMC = torch.ops.aten._softmax_backward_data(to_shares_KMC, shares_KMC, -1, torch.float32).to(half)
            to_block_KMD = torch.bmm(to_scores_KMC, key_KTD[:, seen]) * ctx.scaling
            to_query[:, start:end] = to_block_KMD.view(-1, end - start, query_HTD.shape[2])
            to_key[:, seen] += torch.bmm(to_scores_KMC.transpose(1, 2), block_KMD)
        return to_query, to_key.to(half), to_value.to(half), None, None


def _blocks(length: int, window: int | None) -> Generator[tuple[int, int, int]]:
    """First query, the one after the last, and the first key that is seen."""
    for start in range(0, length, BLOCK):
        yield start, min(start + BLOCK, length), 0 if window is None else max(0, start - window + 1)


def _grouped(block_HRD: Tensor, heads: int) -> Tensor:
    """(K, G * R, D): all queries that a head of keys serves, one below the other."""
    return block_HRD.reshape(heads, -1, block_HRD.shape[2])


def _shares(block_KMD: Tensor, key_KCD: Tensor, queries: int, window: int | None) -> Tensor:
    """(K, M, C) how much each query takes of each key, float32; M = G * R."""
    scores_KMC = torch.bmm(block_KMD, key_KCD.transpose(1, 2))
    keys = key_KCD.shape[1]
    by_query = scores_KMC.view(len(key_KCD), -1, queries, keys)
    if window is None:  # what lies before the block is seen by all of it
        by_query[..., keys - queries :].masked_fill_(_after(queries, queries), float("-inf"))
    else:
        before_RC = torch.ones(queries, keys, dtype=torch.bool).tril_(keys - queries - window)
        by_query.masked_fill_(_after(queries, keys) | before_RC, float("-inf"))
    return scores_KMC.softmax(-1, dtype=torch.float32)


def _after(queries: int, keys: int) -> Tensor:
    """(R, C) keys that come after the query; the last key is the last query's own."""
    return torch.ones(queries, keys, dtype=torch.bool).triu_(keys - queries + 1)
