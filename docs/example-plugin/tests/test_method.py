"""Which weights are projected, and what is said when none can be."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from acme_hooktune_galore.method import GaLore
from acme_hooktune_galore.options import GaLoreOptions
from torch import nn

from core.api import Optim, UserError

VALUES = {"name": "galore", "rank": 2, "update_every": 2, "scale": 0.5}


class AdamW(Optim):
    """The run's optimizer."""

    lr = 0.01

    def build(self, groups):
        return torch.optim.AdamW([dict(group) for group in groups], lr=self.lr)


def model() -> nn.Module:
    torch.manual_seed(0)
    block = nn.ModuleDict({"up": nn.Linear(4, 6), "norm": nn.LayerNorm(4), "narrow": nn.Linear(4, 2)})
    return nn.ModuleDict({"words": nn.Embedding(9, 4), "blocks": nn.ModuleList([block]), "out": nn.Linear(4, 9)})


def context(*blocks: str):
    return SimpleNamespace(facts=SimpleNamespace(blocks=blocks or ("blocks.0",), architecture="Toy"))


def method(**values) -> GaLore:
    return GaLore(GaLoreOptions(**{**VALUES, **values}))


def test_every_weight_is_trained_and_the_blocks_matrices_are_projected():
    trained = method().apply(model().requires_grad_(False), context())
    assert all(p.requires_grad for p in trained.parameters())
    optimizer = method().optimizer(trained, AdamW(), context())
    names = {p: name for name, p in trained.named_parameters()}
    assert [names[p] for p in optimizer.stand_ins] == ["blocks.0.up.weight"]
    held = [names[p] for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(names.values())


def test_a_matrix_with_no_more_sides_than_directions_is_trained_as_without_galore():
    """Then nothing could be saved; and the step is AdamW's to the last bit."""
    plain, low = model(), model()
    optimizers = AdamW().build([{"params": list(plain.parameters())}]), method().optimizer(low, AdamW(), context())
    for step in range(3):
        for trained, optimizer in zip((plain, low), optimizers, strict=True):
            torch.manual_seed(step)
            for parameter in trained.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
    differs = {
        name for (name, a), b in zip(plain.named_parameters(), low.parameters(), strict=True) if not torch.equal(a, b)
    }
    assert differs == {"blocks.0.up.weight"}


def test_nothing_to_project():
    with pytest.raises(UserError, match=r"method\.rank=4 leaves nothing to project") as error:
        method(rank=4).apply(model(), context())
    assert error.value.fix == "method.rank=2, or method=full"
    with pytest.raises(UserError, match="Toy has no blocks with matrices") as error:
        method().apply(model(), context("blocks.0.norm"))
    assert error.value.fix == "method=full"


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"update_every": 0}, {"scale": -1.0}, {"scale": float("nan")}], ids=str)
def test_values_that_cannot_be(wrong):
    with pytest.raises(UserError, match=f"method.{next(iter(wrong))}"):
        GaLoreOptions(**{**VALUES, **wrong})
