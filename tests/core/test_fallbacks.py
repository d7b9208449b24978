"""Models that cannot take several sequences in one row get padded rows, and that is said."""

from __future__ import annotations

import pytest
import torch
from small_models import SMALL, Whole, build, examples, plainly
from transformers import (
    Lfm2Config,
    Lfm2ForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    MambaConfig,
    MambaForCausalLM,
)

import core
from core.batch import lay_out
from core.contracts import Head
from core.layout import choose
from core.logprobs import token_logprobs
from core.testing import tiny

MIXING = {
    "a convolution": lambda: Lfm2ForCausalLM(
        Lfm2Config(
            vocab_size=97,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            layer_types=["conv", "full_attention"],
        )
    ),
    "a recurrent state": lambda: MambaForCausalLM(
        MambaConfig(vocab_size=97, hidden_size=32, state_size=4, num_hidden_layers=2)
    ),
    "attention in chunks": lambda: Llama4ForCausalLM(
        Llama4TextConfig(**SMALL, attention_chunk_size=8, num_local_experts=2, intermediate_size_mlp=48)
    ),
}


@pytest.mark.parametrize("kind", MIXING)
def test_a_model_that_mixes_sequences_up_gets_padded_rows_and_says_so(kind, caplog):
    torch.manual_seed(0)
    model, rows = MIXING[kind]().eval(), examples([30, 12, 7, 20])  # as it is made: what carries over is small
    layout = choose(model, Whole(), Head(), rows, pad=0)
    assert layout == "padded"
    assert f"{type(model).__name__} mixes up sequences that lie in one row" in caplog.text
    assert "rows are padded, slower" in caplog.text
    expected_N = torch.cat([plainly(model, row) for row in rows])
    torch.testing.assert_close(
        token_logprobs(model, lay_out(rows, layout)).logprobs_N, expected_N, atol=1e-5, rtol=1e-5
    )


def test_what_carries_over_is_found_in_half_precision_too(caplog):
    torch.manual_seed(0)
    model = MIXING["a recurrent state"]().eval().bfloat16()
    assert choose(model, Whole(), Head(), examples([30, 12, 7, 20]), pad=0) == "padded"
    assert "mixes up sequences" in caplog.text


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen3"])
def test_half_precision_alone_is_no_reason(name):
    assert choose(build(name).bfloat16(), Whole(), Head(), examples([30, 12, 7, 20]), pad=0) == "apart"


def test_a_loaded_model_keeps_the_cap_on_its_scores(tmp_path, monkeypatch, tiny_model):
    """transformers' quick attention leaves Gemma 2's out without a word."""
    from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM

    monkeypatch.chdir(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained("gemma2")
    config = {**SMALL, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    made = Gemma2ForCausalLM(Gemma2Config(**config, query_pre_attn_scalar=8, attn_logit_softcapping=0.5))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made.save_pretrained("gemma2")
    tiny.write_rows(tmp_path / "rows.jsonl", tiny.sums())
    settings = ["model.path=gemma2", "model.dtype=float32", "data=jsonl", "data.train=rows.jsonl", "metric=none"]
    settings += ["data.batch_size=4", "trainer.accelerator=cpu", "trainer.max_steps=1", "data.holdout=0"]
    result = core.train(core.configure([*settings, "optim.lr=0", "method=lora"]))
    ids = torch.arange(5, 29)[None]
    with torch.no_grad():
        own = Gemma2ForCausalLM.from_pretrained("gemma2", attn_implementation="eager").eval()(ids).logits
        ours = result.model.eval()(ids).logits
        dropped = Gemma2ForCausalLM.from_pretrained("gemma2", attn_implementation="sdpa").eval()(ids).logits
    torch.testing.assert_close(ours, own, atol=1e-4, rtol=1e-4)
    assert (dropped - own).abs().max() > 0.01
