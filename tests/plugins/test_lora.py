"""LoRA's update in one product: as exact as peft's own way under autocast, and that way to the bit elsewhere."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Linear

import core
from plugins.lora.one_product import OneProduct


def adapted() -> Linear:
    """A layer in bfloat16 with an adapter in float32 that is no longer zero."""
    torch.manual_seed(0)
    from peft import LoraConfig

    base = torch.nn.Linear(48, 64, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    layer = Linear(base, "default", config=LoraConfig(), r=8, lora_alpha=24)
    torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
    return layer


def stepped(layer: Linear, given: torch.Tensor, flowing: torch.Tensor) -> list[torch.Tensor]:
    """The output and the gradients of the input and of both matrices."""
    layer.cast_input_dtype_enabled = False
    start = given.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=given.dtype == torch.bfloat16):
        out = layer(start)
    weights = [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    return [out, *torch.autograd.grad(out, [start, *weights], flowing)]


@pytest.mark.parametrize("shape", [(2, 30, 48), (60, 48)])
def test_it_is_as_exact_as_pefts_own_way(shape):
    layer = adapted()
    given, flowing = torch.randn(shape).bfloat16(), torch.randn(*shape[:-1], 64).bfloat16()
    exact = stepped(deepcopy(layer).double(), given.double(), flowing.double())
    theirs = stepped(layer, given, flowing)
    layer.lora_variant["default"] = OneProduct()
    ours = stepped(layer, given, flowing)
    for one, other, true in zip(ours, theirs, exact, strict=True):
        assert one.dtype == other.dtype
        scale = true.abs().mean()
        assert (one - true).abs().mean() <= 1.2 * (other - true).abs().mean() + 1e-3 * scale
        assert (one - true).abs().mean() < 0.01 * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outside_of_autocast_it_is_pefts_own_way_to_the_bit(dtype):
    layer = adapted()
    given = torch.randn(2, 30, 48).to(dtype)
    layer.base_layer.to(dtype)
    theirs = layer(given)
    layer.lora_variant["default"] = OneProduct()
    assert torch.equal(layer(given), theirs)


@pytest.mark.parametrize("safe", [True, False])
def test_it_merges_and_unmerges_as_peft_does(safe):
    layer, other = adapted(), adapted()
    layer.lora_variant["default"] = OneProduct()
    before = layer.base_layer.weight.clone()
    for one in (layer, other):
        one.merge(safe_merge=safe)
    assert torch.equal(layer.base_layer.weight, other.base_layer.weight)
    assert not torch.equal(layer.base_layer.weight, before)
    for one in (layer, other):
        one.unmerge()
    assert torch.equal(layer.base_layer.weight, other.base_layer.weight)


@pytest.mark.parametrize(("typed", "used"), [([], True), (["model.dtype=float32"], False)])
def test_it_acts_while_a_run_trains_in_half_precision(tmp_path, tiny_model, rows_jsonl, monkeypatch, typed, used):
    calls: list[str] = []
    plain = OneProduct.forward

    def counted(module, active_adapter, **rest):
        if torch.is_autocast_enabled("cpu"):
            calls.append(active_adapter)
        return plain(module, active_adapter, **rest)

    monkeypatch.setattr(OneProduct, "forward", staticmethod(counted))
    result = core.train(
        core.configure([
            f"model.path={tiny_model}", "method=lora", "data=jsonl", f"data.train={rows_jsonl}", "metric=none",
            "trainer.max_steps=2", "trainer.accelerator=cpu", f"run.dir={tmp_path / 'run'}", *typed,
        ])
    )  # fmt: skip
    layers = [layer for layer in result.model.modules() if isinstance(layer, LoraLayer)]
    assert bool(calls) is used
    assert len(calls) % len(layers) == 0
