"""An adapted layer puts out what goes in, so that a tuned model answers without autocast, as users run it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from peft import IA3Config, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from core.contracts import Head
from core.peft_method import PeftMethod

QUANTIZED = {
    "int4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16},
    "int8": {"load_in_8bit": True},
}


class Scales(PeftMethod):
    """IA3, which multiplies keys, values and the feed-forward's inner activations."""

    def config(self, context):
        """On the layers of a Llama."""
        return IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])


@pytest.mark.parametrize("quant", QUANTIZED)
def test_ia3_answers_in_the_dtype_of_its_base(tiny_model, quant, tmp_path):
    def base():
        config = BitsAndBytesConfig(**QUANTIZED[quant])
        return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16, quantization_config=config).eval()

    ids = torch.tensor([[5, 6, 7, 8]])
    context = SimpleNamespace(adapter="default", continuing=False, head=Head(), wrap_peft=get_peft_model)
    applied = Scales().apply(base(), context).eval()
    with torch.no_grad():
        logits = applied(ids).logits
        assert logits.dtype == torch.bfloat16
        Scales().save(applied, tmp_path / "adapter", "default")
        loaded = Scales().load(base(), tmp_path / "adapter", "default").eval()
        assert torch.equal(loaded(ids).logits, logits)
