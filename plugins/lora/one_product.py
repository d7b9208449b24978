"""While LoRA trains, its update is one product that adds itself to what the layer gave.

peft writes ``y + (B A x) s`` as a product, a scaling and an addition of full width, each a pass over memory.

Shapes: T tokens, all of them in a row, I inputs and O outputs of a layer, R rank.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import LoraVariant
from torch import Tensor


class OneProduct(LoraVariant):
    """Stands where peft has room for another way to compute a layer; ``merge`` and the like are peft's own."""

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
        hidden_TR = module.lora_A[active_adapter](dropped).flatten(0, -2)
        up_RO = module.lora_B[active_adapter].weight.t()
        summed_TO = torch.addmm(result.flatten(0, -2), hidden_TR, up_RO, alpha=module.scaling[active_adapter])
        return summed_TO.view(result.shape)


class AsOneProduct(Callback):
    """From the first training step to the last, where autocast brings the dtypes together.

    Args:
        adapter: Name of the adapter that is trained.
    """

    def __init__(self, adapter: str) -> None:
        self.adapter = adapter
        self.layers: list[LoraLayer] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, unless everything is float32 or a layer has another way already."""
        if str(trainer.precision).endswith("-mixed"):
            layers = [layer for layer in pl_module.modules() if isinstance(layer, LoraLayer)]
            self.layers = [layer for layer in layers if self.adapter in layer.lora_A.keys() - layer.lora_variant.keys()]
        for layer in self.layers:
            layer.lora_variant[self.adapter] = OneProduct()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As before: merging asks for plain layers."""
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As before."""
        self._end()

    def _end(self) -> None:
        for layer in self.layers:
            layer.lora_variant.pop(self.adapter, None)
        self.layers = []
