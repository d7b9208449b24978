"""Gradient checkpointing: a block keeps its input alone, and is computed again on the way back.

Chen et al. 2016, https://arxiv.org/abs/1604.06174, in the library's own implementation.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from core.errors import UserError
from core.logprobs import output_model
from core.trainer_options import AGAIN


def switch(model: nn.Module, on: bool) -> None:
    """Let a model's blocks be computed again in training, or not.

    Raises:
        UserError: the architecture has no such blocks.
    """
    inner: Any = output_model(model)
    if not on:
        inner.gradient_checkpointing_disable()
        return
    if not inner.supports_gradient_checkpointing:
        raise UserError(f"{AGAIN}=true: {type(inner).__name__} cannot compute its blocks again", f"{AGAIN}=false")
    # the reentrant kind wants inputs with gradients, which a frozen embedding does not give
    inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def again(model: nn.Module) -> list[nn.Module]:
    """Blocks that will be computed again."""
    return [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer) and m.gradient_checkpointing]
