"""Adapters kept by name on the modules whose output they change, and which of them act.

They hang on a forward hook, so the base's modules keep their names, types and weights, quantized or not.

Shapes: B sequences, T tokens, D width of the hidden states, C outputs of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from core.api import UserError
from plugins.adapters.bottleneck import in_dtype_of


class Place(nn.ModuleDict):
    """The adapters of one module, by name.

    Attributes:
        acting: Names of those that act, in order; one that is not here changes nothing here.
        average: Whether several give the mean of what each would give, instead of acting one after the other.
    """

    acting: tuple[str, ...] = ()
    average: bool = False

    def chosen(self) -> list[nn.Module]:
        """The adapters that act here."""
        return [self[name] for name in self.acting if name in self]


class Sublayer(Place):
    """Adds updates to what a sublayer gives: a tensor (B, T, D), or several outputs of which it is the first."""

    def forward(self, inputs: tuple[Any, ...], output: Any) -> Any:
        """The output with the updates added, of its own dtype."""
        if isinstance(output, tuple | list):
            several = cast("Sequence[Any]", output)
            return type(output)((self._added(several[0]), *several[1:]))  # attention weights, router scores
        return self._added(output)

    def _added(self, hidden_BTD: Tensor) -> Tensor:
        chosen = self.chosen()
        if self.average and chosen:
            total_BTD = torch.stack([adapter(hidden_BTD) for adapter in chosen]).sum(0)
            return (hidden_BTD + total_BTD / len(self.acting)).to(hidden_BTD.dtype)
        for adapter in chosen:
            hidden_BTD = (hidden_BTD + adapter(hidden_BTD)).to(hidden_BTD.dtype)
        return hidden_BTD


class Head(Place):
    """Copies of a head that is new with the task, such as a classifier's: each adapter trains its own.

    Of several that act the last one answers, or the mean of all.
    """

    def forward(self, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """(..., C) what the copies make of the head's input, of the output's dtype."""
        chosen = self.chosen()
        answers = [copy(in_dtype_of(next(copy.parameters()), inputs[0])) for copy in chosen]
        if not answers:
            return output
        return (torch.stack(answers).mean(0) if self.average else answers[-1]).to(output.dtype)


def attach(module: nn.Module, name: str, adapter: nn.Module, kind: type[Place], device: torch.device) -> None:
    """Keep ``adapter`` on ``module`` under ``name``, on ``device``; it does not act yet."""
    place = getattr(module, "adapters", None)
    if place is None:
        place = module.adapters = kind()
        module.register_forward_hook(_after)
    place[name] = adapter.to(device).train(module.training)


def _after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    # a function of the module, so that copies of a model use their own adapters; a copied head has none
    place = getattr(module, "adapters", None)
    return output if place is None else place(inputs, output)


def attached(model: nn.Module) -> Iterator[tuple[str, Place]]:
    """Qualified name of each module that has adapters, and the adapters."""
    for name, module in model.named_modules():
        if isinstance(module, Place):
            yield name.rpartition(".")[0], module


def names(model: nn.Module) -> list[str]:
    """The adapters that ``model`` has, in the order they came."""
    return list(dict.fromkeys(name for _, place in attached(model) for name in place))


def check_free(model: nn.Module, name: str) -> None:
    """Refuse a name that cannot be given to a new adapter.

    Raises:
        UserError: there is one of that name, or torch cannot keep a module under it.
    """
    if name in names(model):
        raise UserError(f"the model has an adapter {name!r} already", "give the new one another name")
    if not name or "." in name or hasattr(Place(), name):
        raise UserError(f"an adapter cannot be called {name!r}", "give it another name")


def check_known(model: nn.Module, wanted: Sequence[str]) -> None:
    """Refuse names of adapters that the model does not have.

    Raises:
        UserError: there is one.
    """
    known = names(model)
    for name in wanted:
        if name not in known:
            raise UserError(f"the model has no adapter {name!r}", f"it has: {', '.join(known) or 'none'}")


def device_of(model: nn.Module, path: str) -> torch.device:
    """Where the module at ``path`` computes: a dropout has no weights and follows those around it."""
    while True:
        weight = next(model.get_submodule(path).parameters(), None)
        if weight is not None:
            return weight.device
        path = path.rpartition(".")[0]
