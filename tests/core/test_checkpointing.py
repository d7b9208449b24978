"""Blocks that are computed again on the way back give the same gradients."""

from __future__ import annotations

import json

import pytest

import core
from core import checkpointing
from core.errors import UserError


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["full", "lora", "adapters"])
def test_losses_are_those_without_it(tmp_path, tiny_model, rows_jsonl, method, dtype):
    losses = {}
    for word in ("false", "true"):
        typed = [
            f"model.path={tiny_model}", f"model.dtype={dtype}", "data=jsonl", f"data.train={rows_jsonl}", "metric=none",
            f"method={method}", "optim.lr=1e-2", "trainer.accelerator=cpu", "trainer.max_steps=4",
            f"trainer.gradient_checkpointing={word}", f"run.dir={tmp_path}/{word}",
        ]  # fmt: skip
        result = core.train(core.configure(typed))
        assert bool(checkpointing.again(result.model)) == (word == "true")
        lines = map(json.loads, (result.folder / "metrics.jsonl").read_text().splitlines())
        losses[word] = [line["loss"] for line in lines]
    assert losses["true"] == pytest.approx(losses["false"], rel=1e-6)
    assert losses["true"][-1] < losses["true"][0]


def test_an_architecture_that_cannot_is_refused():
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=8, **shape))
    model.supports_gradient_checkpointing = False
    with pytest.raises(UserError, match="LlamaForCausalLM cannot compute its blocks again"):
        checkpointing.switch(model, on=True)
