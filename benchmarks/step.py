"""One training step of the default run (SmolLM2-135M, int4, LoRA), as it is and with parts of it taken away.

Run: python benchmarks/step.py
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack

import torch
from peft.helpers import disable_input_dtype_casting
from peft.tuners.lora import LoraLayer

from core import configure
from core.batch import lay_out
from core.contracts import Head
from core.layout import choose
from core.plan import make_plan
from core.quiet import hush
from core.stages import context as make_context
from core.stages import read
from core.weights import hold_masters, load

STEPS = 5


def main() -> None:
    hush()
    plan = make_plan(configure(["method=lora", "quant=int4", "data.train_rows=96", "data.validation_rows=0"]))
    data = read(plan)
    model = load(plan, data.head, training=True)
    model = plan.method.apply(model, make_context(plan, data, model)).train()
    hold_masters(model)
    examples = data.train.examples
    best = choose(model, plan.method, Head(), examples, 0)

    ways = [(layer, layer.lora_variant) for layer in model.modules() if isinstance(layer, LoraLayer)]

    def step(layout, autocast, one_product, start):
        for layer, ours in ways:
            layer.lora_variant = ours if one_product else {}
        batch = lay_out(examples[16 * start : 16 * start + 16], layout)
        began = time.perf_counter()
        with ExitStack() as stack:
            if autocast:  # as core.keep_inputs does while it trains
                stack.enter_context(torch.autocast("cpu", torch.bfloat16))
                stack.enter_context(disable_input_dtype_casting(model))
            loss = plan.objective.loss(model, batch)
        loss.total.backward()
        model.zero_grad()
        return batch.tokens / (time.perf_counter() - began)

    variants = {
        f"as it is ({best}, autocast)": (best, True, True),
        "without autocast": (best, False, True),
        "padded rows": ("padded", True, True),
        "LoRA's update in peft's way": (best, True, False),
    }
    speeds: dict[str, list[float]] = {name: [] for name in variants}
    for i in range(STEPS + 1):  # in turns, so that a slow moment of the machine hits all
        for name, (layout, autocast, one_product) in variants.items():
            speed = step(layout, autocast, one_product, i)
            if i:
                speeds[name].append(speed)
    first = next(iter(speeds.values()))
    for name, some in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(some, first, strict=True))
        print(f"{name:<32}{statistics.median(some):6.0f} tokens/s   {ratio:.2f} of the first")


if __name__ == "__main__":
    main()
