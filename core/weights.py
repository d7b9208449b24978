"""Weights in, quantized as asked; what is trained in float32; what is saved in the base's dtype."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from core.attention import keep_cap
from core.contracts import Head, Method, Quantizer
from core.errors import UserError
from core.returned import made_as, returned

if TYPE_CHECKING:
    from core.plan import Plan


def load(plan: Plan, head: Head, training: bool) -> nn.Module:
    """The base model on its device, quantized, and with the adapter that training goes on from.

    Raises:
        UserError: the loader dropped the quantizer's options, so that nothing is quantized.
    """
    options = plan.quantizer.load_options(training)
    model = returned(plan.loader, "load", plan.loader.load(plan.start.model, head, options), nn.Module)
    model = returned(plan.quantizer, "prepare", plan.quantizer.prepare(model), nn.Module)
    keep_cap(model)
    _check_quantized(plan, model)
    if not any(p.is_cuda for p in model.parameters()) and on_gpu(plan):
        model = model.to("cuda")
    if plan.start.adapter is not None:
        model = returned(plan.method, "load", plan.method.load(model, plan.start.adapter, "default"), nn.Module)
    return model


def autocast(plan: Plan, device: torch.device, as_trained: bool = True) -> torch.autocast:
    """As in training: masters in float32 and layers in bfloat16 meet only under autocast."""
    return torch.autocast(device.type, plan.dtype, enabled=as_trained and plan.dtype != torch.float32)


def on_gpu(plan: Plan) -> bool:
    """Whether there is a GPU that the run may use."""
    return torch.cuda.is_available() and plan.config.trainer.accelerator in ("auto", "gpu", "cuda")


def _check_quantized(plan: Plan, model: nn.Module) -> None:
    answers = type(plan.quantizer).quantized is not Quantizer.quantized
    if answers and not any(plan.quantizer.quantized(layer) for layer in model.modules()):
        quant, loader = (plan.config.offers[axis].part.name for axis in ("quant", "loader"))
        raise UserError(f"loader={loader} left every layer dense although quant={quant} was asked for", "quant=none")


def hold_masters(model: nn.Module) -> None:
    """Hold what is trained in float32: small updates would be rounded away in half precision."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.float()


def settle(model: nn.Module, method: Method, dtype: str) -> None:
    """After training a whole model: back to the base's dtype, so that what is measured is what is saved."""
    if method.saves == "model":
        for parameter in model.parameters():
            if parameter.dtype == torch.float32:
                parameter.data = parameter.data.to(getattr(torch, dtype))


def percent(share: float) -> str:
    """A share that is read well however small it is.

    Example:
        >>> [percent(share) for share in (1.0, 0.0363, 0.000257)]
        ['100.0%', '3.6%', '0.026%']
    """
    return f"{share:.{max(1, -math.floor(math.log10(share)) - 1)}%}"


def trainable(model: nn.Module, plan: Plan) -> int:
    """Number of trained parameters.

    Raises:
        UserError: there are none.
    """
    number = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not number:
        place = f"{type(plan.method).__name__}.apply()"
        targets = hasattr(plan.config.options["method"], "targets")
        fix = "method.targets=[NAMES of the model's layers]" if targets else f"mend {place}: it freezes all"
        raise UserError(f"{made_as(plan.method)}: {place} left nothing to train", fix)
    return number
