"""A model without weights: built on the meta device, where tensors have a shape and no data."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers import AutoConfig

from core import stages
from core.contracts import Head
from core.plan import Plan


def build(plan: Plan, head: Head) -> nn.Module:
    """The base model of a plan, dense, on the meta device, in the dtype that it is loaded in.

    Args:
        plan: Its facts name the model's folder.
        head: Which model class.
    """
    source = plan.start.model
    config: Any = AutoConfig.from_pretrained(plan.facts.path, trust_remote_code=source.trust_remote_code, **head.config)
    auto: Any = getattr(transformers, head.auto_class)
    with torch.device("meta"):
        return auto.from_config(config, dtype=plan.dtype, trust_remote_code=source.trust_remote_code)


def with_method(plan: Plan, model: nn.Module, context: Any) -> nn.Module:
    """The same with the method applied, what is trained held in float32."""
    context.counting, context.continuing = True, False  # one that is gone on from is counted as it was put in
    return stages.apply(plan, model, context)


def as_if_real(model: nn.Module, mode: FakeTensorMode) -> None:
    """Let a model on the meta device pass for one on the CPU, so that autocast acts on it; still without data."""
    known: dict[int, Any] = {}  # a tied weight stays one

    def faked(tensor: torch.Tensor) -> Any:
        if id(tensor) not in known:
            fake: Any = FakeTensor(mode, tensor.detach().to("meta"), torch.device("cpu"))
            trained = nn.Parameter(fake, requires_grad=tensor.requires_grad)
            known[id(tensor)] = trained if isinstance(tensor, nn.Parameter) else fake
        return known[id(tensor)]

    for module in model.modules():
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            setattr(module, name, faked(tensor))
