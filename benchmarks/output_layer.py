"""The output layer on the last position of each prompt: a slice, as ``generate`` hands it over, and in one piece.

Run: python benchmarks/output_layer.py
"""

from __future__ import annotations

import resource
import statistics
import time

import torch

PROMPTS, TOKENS, HIDDEN, VOCABULARY, REPEATS = 32, 60, 576, 49_152, 9
"""Of SmolLM2-135M and a batch of the default metric."""


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    layer = torch.nn.Linear(HIDDEN, VOCABULARY, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    states = torch.randn(PROMPTS, TOKENS, HIDDEN, dtype=torch.bfloat16)
    medians = {}
    # the small one first: a process' peak never goes down
    for name, last in (("one piece", states[:, -1:].contiguous()), ("slice", states[:, -1:])):
        before, seconds = peak(), []
        for _ in range(REPEATS):
            start = time.perf_counter()
            layer(last)
            seconds.append(time.perf_counter() - start)
        medians[name] = statistics.median(seconds)
        print(f"output layer, {name:9}  {1000 * medians[name]:7.1f} ms, peak {peak() - before:+.2f} GB")
    print(f"output layer, slice / one piece: {medians['slice'] / medians['one piece']:.1f}")


if __name__ == "__main__":
    main()
