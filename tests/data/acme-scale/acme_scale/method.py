"""Learned output factors, as the l vectors of (IA)^3 (Liu et al. 2022, https://arxiv.org/abs/2205.05638, section 3.3).

Shapes: B batch, T tokens, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from acme_scale.options import ScaleOptions
from core.api import Context, Method, UserError

FILE = "scales.safetensors"


class Scale(Method):
    """``y = s * (W x)`` in the layers called ``targets``; s starts at one, W stays as it was."""

    saves = "adapter"

    def __init__(self, options: ScaleOptions) -> None:
        self.options = options

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Freeze ``model`` and let the factors learn, putting them in unless ``load`` has.

        Raises:
            UserError: no linear layer has such a name.
        """
        model.requires_grad_(False)
        if not context.continuing:
            ends = {name: name.rpartition(".")[2] for name in context.facts.linears}
            chosen = [name for name, end in ends.items() if end in self.options.targets]
            if not chosen:
                known = ",".join(sorted(set(ends.values())))
                raise UserError(f"no layer is called {' or '.join(self.options.targets)}", f"method.targets=[{known}]")
            put_in(model, {name: torch.ones(context.facts.linears[name][1]) for name in chosen})
        for layer in scaled(model).values():
            layer.scale_O.requires_grad_(True)
        return model

    def save(self, model: nn.Module, folder: Path, adapter: str) -> None:
        """One file, layer name -> factors."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: layer.scale_O.detach().clone() for name, layer in scaled(model).items()}, folder / FILE)

    def load(self, model: nn.Module, folder: Path, adapter: str) -> nn.Module:
        """Put saved factors in."""
        put_in(model, load_file(folder / FILE))
        return model

    @contextmanager
    def using(self, model: nn.Module, adapters: Sequence[str]) -> Iterator[None]:
        """With ``()`` the factors do nothing."""
        before = {layer: layer.acts for layer in scaled(model).values()}
        for layer in before:
            layer.acts = bool(adapters)
        try:
            yield
        finally:
            for layer, acts in before.items():
                layer.acts = acts


class Scaled(nn.Module):
    """``y_BTO = s_O * base(x_BTI)``."""

    def __init__(self, base: nn.Module, scale_O: Tensor) -> None:
        super().__init__()
        self.base = base
        self.scale_O = nn.Parameter(scale_O)
        self.acts = True

    def forward(self, x_BTI: Tensor) -> Tensor:
        """Scale what the base layer answers."""
        y_BTO = self.base(x_BTI)
        return y_BTO * self.scale_O.to(y_BTO.dtype) if self.acts else y_BTO


def scaled(model: nn.Module) -> dict[str, Scaled]:
    """The layers that have factors, by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, Scaled)}


def put_in(model: nn.Module, scales: dict[str, Tensor]) -> None:
    """Wrap each named layer."""
    for name, scale_O in scales.items():
        base = model.get_submodule(name)
        device = next(base.parameters()).device
        model.set_submodule(name, Scaled(base, scale_O.to(device)))
