"""Full fine-tuning."""

from __future__ import annotations

from torch import nn

from core.api import Context, Method
from plugins.full.options import FullOptions


class Full(Method):
    """Every weight takes gradients."""

    def __init__(self, options: FullOptions) -> None:
        self.options = options

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Let every weight of ``model`` take gradients."""
        return model.requires_grad_(True)
