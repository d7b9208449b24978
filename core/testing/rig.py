"""A run taken apart, so that a check can look between its stages.

Shapes: B = 1 row of T tokens, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import seed_everything
from torch import Tensor, nn

import core
from core import stages
from core.batch import lay_out
from core.compose import configure
from core.context import RunContext
from core.plan import Plan, make_plan
from core.result import Result
from core.returned import returned
from core.weights import load

IDS_BT = torch.arange(5, 29)[None]
"""Tokens that every vocabulary has."""


class Rig:
    """The stages of one run, callable one by one.

    Attributes:
        plan: Its parts.
        data: Its rows.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        self.plan: Plan = make_plan(configure(overrides))
        self.data = stages.read(self.plan)

    def base(self, training: bool = True) -> nn.Module:
        """The model as it is loaded and quantized."""
        seed_everything(0, verbose=False)
        return load(self.plan, self.data.head, training)

    def context(self, model: nn.Module, adapter: str = "default") -> RunContext:
        """What parts may ask; reference values are computed by ``model`` as it stands."""
        found = stages.context(self.plan, self.data, model)
        found.adapter = adapter
        stages.reference(self.plan, model, self.data, found)
        return found

    def applied(self) -> tuple[nn.Module, RunContext]:
        """The model with the method applied."""
        model = self.base()
        context = self.context(model)
        return returned(self.plan.method, "apply", self.plan.method.apply(model, context), nn.Module), context

    def descend(self, model: nn.Module, context: RunContext, steps: int = 3, length: float = 0.05) -> list[float]:
        """Steps against the gradient on the first batch, whatever the optimizer; the loss of each.

        A step moves some weight of each parameter by ``length``, so that it shows however small the gradient is.
        """
        model.train()
        batch = lay_out(self.data.train.examples[:4], "padded", context.pad).to(context.device)
        losses: list[float] = []
        trained = [p for p in model.parameters() if p.requires_grad]
        for _ in range(steps):
            loss = self.plan.objective.loss(model, batch)
            mean = loss.total / loss.items
            gradients: Any = torch.autograd.grad(mean, trained, allow_unused=True)
            with torch.no_grad():
                for parameter, gradient in zip(trained, gradients, strict=True):
                    if gradient is not None:
                        parameter -= length * (gradient / gradient.abs().max().clamp(min=1e-12)).to(parameter.dtype)
            losses.append(mean.item())
        return losses


def logits_BTV(model: nn.Module) -> Tensor:
    """What a model says to ``IDS_BT``, in eval mode; its mode is as before afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            found: Any = model(input_ids=IDS_BT.to(next(model.parameters()).device), use_cache=False)
            return found.logits.float().cpu()
    finally:
        model.train(was_training)


def train(overrides: Sequence[str]) -> Result:
    """A whole run."""
    return core.train(configure(overrides))


def losses_of(result: Result) -> list[float]:
    """Of each step."""
    return [line["loss"] for line in result.metrics if line["split"] == "train"]


def logits_of_run(folder: Path) -> Tensor:
    """What the model of a finished run says, loaded as a user would."""
    return logits_BTV(core.load_run(folder).model)
