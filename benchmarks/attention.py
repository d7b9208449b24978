"""Attention over short sequences on this machine: per sequence or masked, bfloat16 or float32.

Run: python benchmarks/attention.py
"""

from __future__ import annotations

import statistics
import time

import torch
from torch.nn.functional import scaled_dot_product_attention as attend

LENGTHS = [35 + (7 * i) % 30 for i in range(16)]
HEADS, WIDTH, REPEATS = 9, 64, 15


def per_sequence(q, k, v):
    parts = zip(q.split(LENGTHS, 2), k.split(LENGTHS, 2), v.split(LENGTHS, 2), strict=True)
    return torch.cat([attend(a, b, c, is_causal=True) for a, b, c in parts], 2)


def masked(q, k, v):
    owner = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    total = len(owner)
    mask = (owner[:, None] == owner[None]) & torch.ones(total, total, dtype=torch.bool).tril()
    return attend(q, k, v, attn_mask=mask)


def milliseconds(run, dtype) -> tuple[float, float]:
    forward, backward = [], []
    for repeat in range(REPEATS + 2):
        q, k, v = (torch.randn(1, HEADS, sum(LENGTHS), WIDTH, dtype=dtype, requires_grad=True) for _ in range(3))
        start = time.perf_counter()
        out = run(q, k, v)
        middle = time.perf_counter()
        out.float().sum().backward()
        if repeat > 1:  # two to warm up
            forward.append(middle - start)
            backward.append(time.perf_counter() - middle)
    return 1e3 * statistics.median(forward), 1e3 * statistics.median(backward)


if __name__ == "__main__":
    print(
        f"{len(LENGTHS)} sequences, {sum(LENGTHS)} tokens, {HEADS} heads of {WIDTH}, {torch.get_num_threads()} threads"
    )
    for run in (per_sequence, masked):
        for dtype in (torch.bfloat16, torch.float32):
            forward, backward = milliseconds(run, dtype)
            print(f"{run.__name__:<14}{dtype!s:<16} forward {forward:6.2f} ms   backward {backward:6.2f} ms")
