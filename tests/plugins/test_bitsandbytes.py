"""What quantized layers hold, and that measuring leaves them so."""

from __future__ import annotations

import pytest
import torch

from core import configure
from plugins.bitsandbytes.quantizers import Int4, Int8


def quantizer(name: str):
    return {"int4": Int4, "int8": Int8}[name](configure([f"quant={name}", "method=lora"]).options["quant"])


def quantized(tiny_model, part):
    from transformers import AutoModelForCausalLM

    options = part.load_options(training=True)
    return part.prepare(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16, **options))


def test_a_measurement_does_not_repack_4_bit_layers(tiny_model):
    """On CPUs with AVX512-BF16 the library does, unless told; elsewhere there is nothing to see."""
    part = quantizer("int4")
    model = quantized(tiny_model, part).eval()
    with torch.no_grad():
        model(input_ids=torch.tensor([[5, 6, 7]]))
    layers = [layer for layer in model.modules() if part.quantized(layer)]
    assert len(layers) == 14
    assert not any(getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in layers)
    assert {layer.compute_dtype for layer in layers} == {torch.bfloat16}


@pytest.mark.parametrize(("name", "worst"), [("int8", 0.02), ("int4", 0.2)])
def test_dequantized_weights_are_near_the_dense_ones(tiny_model, name, worst):
    from transformers import AutoModelForCausalLM

    part = quantizer(name)
    dense = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).get_submodule("model.layers.0.mlp")
    small = quantized(tiny_model, part).get_submodule("model.layers.0.mlp")
    for layer in ("gate_proj", "down_proj"):
        weight = dense.get_submodule(layer).weight.float()
        gap = part.dequantize(small.get_submodule(layer)).float() - weight
        assert 0 < gap.abs().max() / weight.abs().max() < worst


@pytest.mark.parametrize(
    ("name", "start", "worst"),
    [("none", False, 1e-5), ("int8", False, 0.05), ("int4", False, 1e-5), ("int4", "olora", 1e-5)],
)
def test_merging_folds_the_adapter_into_plain_layers(tiny_model, name, start, worst):
    """int8 rounds activations too, which a dense layer does not: its merge is near, the others' exact.

    OLoRA takes its start out of the base, which must not happen again when it is merged.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = configure([f"quant={name}", "method=lora"])
    part = config.registry.make(config.offers["quant"], config.options["quant"])
    method = config.registry.make(config.offers["method"], config.options["method"])
    options = part.load_options(training=False)
    model = part.prepare(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32, **options))
    torch.manual_seed(0)
    adapter = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=start, task_type="CAUSAL_LM")
    wrapped = get_peft_model(model, adapter).eval()
    for name, parameter in wrapped.named_parameters():
        if start and "lora_B" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        with wrapped.disable_adapter():
            base = wrapped(input_ids=ids).logits
        adapted = wrapped(input_ids=ids).logits
        merged = method.merge(wrapped, part)(input_ids=ids).logits
    assert (adapted - base).abs().max() > 0.5
    assert (merged - adapted).abs().max() < worst * adapted.abs().max()
