"""LoRA that its author never tried on int8."""

from typing import Any

from torch import nn

from plugins.lora.method import LoRA


class Unlucky(LoRA):
    """Fails when its turn comes, which nobody can know before."""

    def apply(self, model: nn.Module, context: Any) -> nn.Module:
        """Update dense and 4-bit layers."""
        if "Linear8bitLt" in {type(layer).__name__ for layer in model.modules()}:
            raise RuntimeError("int8 was not thought of")
        return super().apply(model, context)
