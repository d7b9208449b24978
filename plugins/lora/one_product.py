"""Under autocast LoRA's update is one product that adds itself to what the layer gave.

peft writes ``y + (B A x) s`` as a product, a scaling and an addition of full width, each a pass over memory.

Shapes: T tokens, all of them in a row, I inputs and O outputs of a layer, R rank.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Linear, LoraVariant
from torch import Tensor, nn


def as_one_product(model: nn.Module, adapter: str) -> None:
    """Let the layers of an adapter compute so, unless they have another way already."""
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and adapter in layer.lora_A:
            layer.lora_variant.setdefault(adapter, OneProduct())


class OneProduct(LoraVariant):
    """Stands where peft has room for another way to compute a layer; all but ``forward`` is as peft has it."""

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """What the layer gave, and the update.

        Args:
            module: The adapted layer.
            active_adapter: Whose weights are taken.
            x: (..., I)
            result: (..., O) of the base.
        """
        dropped = module.lora_dropout[active_adapter](x)
        hidden = module.lora_A[active_adapter](dropped)
        scaling = module.scaling[active_adapter]
        if not torch.is_autocast_enabled(x.device.type):  # to the bit as peft, which will load what is saved
            update = module.lora_B[active_adapter](hidden) * scaling
            return result + (update if isinstance(module, Linear) else update.to(result.dtype))
        hidden_TR, up_RO = hidden.flatten(0, -2), module.lora_B[active_adapter].weight.t()
        return torch.addmm(result.flatten(0, -2), hidden_TR, up_RO, alpha=scaling).view(result.shape)

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """The weight (O, I) with the update."""
        return orig_weight + module.get_delta_weight(active_adapter).to(orig_weight.dtype)

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: Tensor) -> None:
        """The same in place."""
        orig_weight.data += module.get_delta_weight(active_adapter).to(orig_weight.dtype)

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """The weight (O, I) without it."""
        return orig_weight - module.get_delta_weight(active_adapter).to(orig_weight.dtype)
