"""What a run will need, from shapes alone: parameters, and memory term by term."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from core import attention, stages
from core.batch import LaidOut, lay_out
from core.context import RunContext
from core.contracts import Head
from core.groups import members
from core.kept import kept_bytes
from core.layout import quickest
from core.output_layer import SLICE_BYTES
from core.plan import Plan
from core.run_data import Data
from core.weightless import build, with_method
from core.weights import on_gpu, trainable

RUNTIME = 150_000_000
"""Bytes that libraries take when a model is loaded and trained: code, threads' buffers."""

HOLES = 1 / 3
"""Of what goes into the linear layers and comes out of them, kept or not: what a CPU's heap leaves empty between other
lengths after some steps. Found by ``benchmarks/memory.py``, of one model on one machine.
"""


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of training.

    Attributes:
        weights: The base as it is held.
        trained: What is trained, in float32.
        gradients: Of what is trained.
        optimizer: Its state.
        activations: What a micro-batch keeps for its way back.
        logits: What exists of them at one time on the way back.
        file: Pages of the weights' file that stay mapped though they were quantized; the system may take them back.
        runtime: What libraries take, and what the heap leaves empty.
    """

    weights: int
    trained: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    file: int
    runtime: int = RUNTIME

    @property
    def total(self) -> int:
        """All of it."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Forecast:
    """What is known of a run before it begins.

    Attributes:
        base: Parameters of the model.
        trained: Parameters that are trained.
        steps: Optimizer steps.
        tokens: Of the largest micro-batch.
        memory: At the peak.
    """

    base: int
    trained: int
    steps: int
    tokens: int
    memory: Memory


def forecast(plan: Plan, data: Data) -> Forecast:
    """Apply the method to the model without weights, and count.

    Raises:
        UserError: the method cannot act on this model, or nothing is left to train.
    """
    model = build(plan, data.head)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    layers = dict(model.named_modules())
    context = stages.context(plan, data, model)
    model = with_method(plan, model, context)
    number = trainable(model, plan)
    trained = [p for p in model.parameters() if p.requires_grad]
    batch = largest(plan, data, model, context)
    weights = sum(_held(plan, names.get(id(p), ""), p) for p in model.parameters() if not p.requires_grad)
    state = _state(plan, model, context, trained)
    logits = 4 * len(batch.targets_N) * plan.facts.vocabulary
    quantized = {} if plan.dense else plan.facts.linears
    holding = [layers[name] for name in quantized] if plan.quantizer.keeps_inputs else []
    activations = kept_bytes(model, plan.objective, batch, plan.dtype, holding)
    return Forecast(
        base=plan.facts.parameters,
        trained=number,
        steps=context.total_steps,
        tokens=batch.tokens,
        memory=Memory(
            weights=weights,
            trained=_bytes(trained),
            gradients=_bytes(trained),
            optimizer=state,
            activations=activations,
            logits=3 * min(logits, SLICE_BYTES),
            file=0 if on_gpu(plan) else 2 * sum(i * o for i, o in quantized.values()),
            runtime=RUNTIME + (0 if on_gpu(plan) else _holes(plan, batch.tokens)),
        ),
    )


def largest(plan: Plan, data: Data, model: nn.Module, context: RunContext) -> LaidOut:
    """The micro-batch of the first epoch with the most tokens."""
    size, lengths = plan.options.batch_size, data.train.lengths
    drawn = [members(context.drawn, context.order[at : at + size]) for at in range(0, len(context.order), size)]
    most = max(drawn, key=lambda some: sum(lengths[index] for index in some))
    apart = plan.method.layout == "any" and data.head == Head() and attention.install(model)
    return lay_out([data.train.examples[index] for index in most], quickest(data.train.examples) if apart else "padded")


def _held(plan: Plan, name: str, parameter: nn.Parameter) -> int:
    """Bytes of a frozen parameter."""
    layer, _, last = name.rpartition(".")
    if not plan.dense and last == "weight" and layer in plan.facts.linears:
        return math.ceil(parameter.numel() * plan.quantizer.bits / 8)
    return parameter.numel() * parameter.element_size()


def _holes(plan: Plan, tokens: int) -> int:
    passing = sum(inputs + outputs for inputs, outputs in plan.facts.linears.values())
    return int(HOLES * tokens * passing * plan.dtype.itemsize)


def _state(plan: Plan, model: nn.Module, context: Any, trained: Sequence[nn.Parameter]) -> int:
    """Bytes of the optimizer's state, seen after a step without data; else two numbers a parameter."""
    try:
        optimizer = plan.method.optimizer(model, plan.optim, context)
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        states: Sequence[Any] = list(optimizer.state.values())
        return sum(_bytes([v for v in state.values() if isinstance(v, torch.Tensor)]) for state in states)
    except Exception:  # whatever an optimizer does that needs numbers
        return 2 * _bytes(trained)
    finally:
        for parameter in trained:
            parameter.grad = None


def _bytes(tensors: Sequence[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
