"""Attention over sequences in one row on this machine: per sequence or masked, torch's kernel or ours.

Run: python benchmarks/attention.py
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attend

from core.causal_attention import causal_attention

ROWS = {
    "16 of 50 tokens": [35 + (7 * i) % 30 for i in range(16)],
    "8 of 190 tokens": [120 + (37 * i) % 140 for i in range(8)],
    "2 of 1,024 tokens": [1024, 1024],
}
HEADS, KEYS, WIDTH, REPEATS = 9, 3, 64, 9
"""Of SmolLM2-135M."""


def per_sequence(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    parts = zip(q.split(lengths, 2), k.split(lengths, 2), v.split(lengths, 2), strict=True)
    return torch.cat([attend(a, b, c, is_causal=True, enable_gqa=True) for a, b, c in parts], 2)


def in_float32(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    return per_sequence(q.float(), k.float(), v.float(), lengths).to(q.dtype)


def ours(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    parts = zip(*(tensor[0].transpose(0, 1).split(lengths) for tensor in (q, k, v)), strict=True)
    return torch.cat([causal_attention(a, b, c, WIDTH**-0.5) for a, b, c in parts])[None].transpose(1, 2)


def masked(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    mask = (owner[:, None] == owner[None]) & torch.ones(len(owner), len(owner), dtype=torch.bool).tril()
    return attend(q, k, v, attn_mask=mask, enable_gqa=True)


def milliseconds(run, lengths: list[int]) -> tuple[float, float]:
    forward, backward = [], []
    for repeat in range(REPEATS + 2):
        q, k, v = (
            torch.randn(1, sum(lengths), heads, WIDTH, dtype=torch.bfloat16).transpose(1, 2).requires_grad_()
            for heads in (HEADS, KEYS, KEYS)
        )
        start = time.perf_counter()
        out = run(q, k, v, lengths)
        middle = time.perf_counter()
        out.float().sum().backward()
        if repeat > 1:  # two to warm up
            forward.append(middle - start)
            backward.append(time.perf_counter() - middle)
    return 1e3 * statistics.median(forward), 1e3 * statistics.median(backward)


if __name__ == "__main__":
    print(f"{HEADS} heads of {WIDTH}, {KEYS} of keys, bfloat16, {torch.get_num_threads()} threads")
    for name, lengths in ROWS.items():
        for run in (per_sequence, in_float32, ours, masked):
            forward, backward = milliseconds(run, lengths)
            print(f"{name:<18} {run.__name__:<13} forward {forward:7.2f} ms   backward {backward:7.2f} ms")
