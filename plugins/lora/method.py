"""LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685, equation 3) through the peft library."""

from __future__ import annotations

from pathlib import Path

from peft import LoraConfig, PeftConfig
from torch import nn

from core.api import Context, PeftMethod, UserError
from plugins.lora.one_product import as_one_product
from plugins.lora.options import LoRAOptions


class LoRA(PeftMethod):
    """``y = W x + (alpha / rank) B A x``; A is random and B zero at the start, W stays as it was."""

    def __init__(self, options: LoRAOptions) -> None:
        self.options = options

    def config(self, context: Context) -> PeftConfig:
        """The library's config.

        Raises:
            UserError: no linear layer has a name that ``targets`` asks for.
        """
        o = self.options
        known = sorted({name.rpartition(".")[2] for name in context.facts.linears})
        for target in o.targets:
            if target != "all-linear" and target not in known:
                raise UserError(
                    f"method.targets: no linear layer is called {target}", f"method.targets=[{','.join(known)}]"
                )
        return LoraConfig(
            r=o.rank,
            lora_alpha=o.alpha,  # pyright: ignore[reportArgumentType]  # a float is fine: it is only divided
            lora_dropout=o.dropout,
            target_modules="all-linear" if "all-linear" in o.targets else list(o.targets),
        )

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Put the adapter in, or make it trainable when it was loaded."""
        model = super().apply(model, context)
        as_one_product(model, context.adapter)
        return model

    def load(self, model: nn.Module, folder: Path, adapter: str) -> nn.Module:
        """Put a saved adapter in; a reference is computed as it is trained."""
        model = super().load(model, folder, adapter)
        as_one_product(model, adapter)
        return model
