"""The matrix products of a training step alone: what a step cannot be quicker than on this machine.

Run: by ``benchmarks/beside_trl.py``

Shapes: T tokens of a step, N supervised ones, I inputs and O outputs of a layer, R rank.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable

import torch
from one_training import RANK, Job, our_examples
from torch import Tensor

from core.contracts import Tokens

REPEATS = 5


def seconds(job: Job) -> float:
    """Of the products of the linear layers and of the output layer in a mean step, forward and backward.

    Attention's own products, which grow with each sequence's length, are not among them.
    """
    import core
    from core.plan import make_plan

    facts = make_plan(core.configure(job.overrides)).facts
    values = [value for example in our_examples(job) for value in example.values() if isinstance(value, Tokens)]
    steps = len(our_examples(job)) / job.batch
    tokens = round(sum(len(value.ids) for value in values) / steps)
    supervised = round(sum(sum(map(bool, value.loss_weights)) for value in values) / steps)
    dtype = getattr(torch, job.dtype)
    total = 0.0
    for (inputs, outputs), layers in Counter(facts.linears.values()).items():
        total += layers * _timed(lambda i=inputs, o=outputs: _layer(job, tokens, i, o, dtype))
    return total + _timed(lambda: _dense(job, supervised, facts.hidden, facts.vocabulary, dtype))


def _timed(prepare: Callable[[], list[tuple[Tensor, Tensor]]]) -> float:
    products = prepare()
    taken: list[float] = []
    for repeat in range(REPEATS + 1):
        start = time.perf_counter()
        for left, right in products:
            torch.mm(left, right)
        if repeat:  # one to warm up
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _layer(job: Job, tokens: int, inputs: int, outputs: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Of a linear layer, with the adapter beside it where there is one."""
    found = _dense(job, tokens, inputs, outputs, dtype)
    if job.method == "lora":
        for i, o in ((inputs, RANK), (RANK, outputs)):
            found += _products(tokens, i, o, dtype, ("forward", "inputs", "weight"))
    return found


def _dense(job: Job, tokens: int, inputs: int, outputs: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Of a weight (O, I): forward, back to the inputs, and to the weight where it is trained.

    The reference of a preference takes a forward more.
    """
    trained = ("weight",) if job.method == "full" else ()
    again = ("forward",) if job.objective == "dpo" else ()
    return _products(tokens, inputs, outputs, dtype, ("forward", "inputs", *trained, *again))


def _products(
    tokens: int, inputs: int, outputs: int, dtype: torch.dtype, which: tuple[str, ...]
) -> list[tuple[Tensor, Tensor]]:
    x_TI, y_TO = torch.randn(tokens, inputs, dtype=dtype), torch.randn(tokens, outputs, dtype=dtype)
    weight_OI = torch.randn(outputs, inputs, dtype=dtype)
    pairs = {"forward": (x_TI, weight_OI.T), "inputs": (y_TO, weight_OI), "weight": (y_TO.T, x_TI)}
    return [pairs[name] for name in which]


if __name__ == "__main__":
    print(json.dumps(seconds(Job(**json.loads(sys.argv[1])))))
