"""Small random models of usual architectures, rows for them, and what the models themselves say of a row."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from core.attention import keep_cap
from core.contracts import Method, Tokens

VOCABULARY = 97
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}
WINDOW = 5
"""Tokens that a sliding layer sees: fewer than most rows have."""

MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SMALL, sliding_window=WINDOW)),
    "qwen2": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1)
    ),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SMALL)),
    "gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(
            **SMALL,
            query_pre_attn_scalar=8,
            final_logit_softcapping=3.0,
            attn_logit_softcapping=1.0,
            sliding_window=WINDOW,
        )
    ),
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            **SMALL,
            query_pre_attn_scalar=8,
            sliding_window=WINDOW,
            layer_types=["sliding_attention", "full_attention"],
        )
    ),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=8.0)),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.25)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    ),
}
LAYOUTS = ("apart", "masked", "padded")


class Whole(Method):
    """Trains everything."""

    def apply(self, model, context):
        return model


def build(name: str) -> nn.Module:
    """As the core loads it, far from uniform, so that a mistake shows."""
    torch.manual_seed(0)
    model = MODELS[name]()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    keep_cap(model)
    return model.eval()


def plain(model: nn.Module) -> nn.Module:
    """A copy with the architecture's own attention, written out, which knows windows and caps."""
    other = copy.deepcopy(model)
    other.config._attn_implementation = "eager"
    return other


def examples(lengths: list[int], supervised: int = 3) -> list[dict[str, Tokens]]:
    """Random rows, of which the last tokens are supervised."""
    generator = torch.Generator().manual_seed(sum(lengths))
    found = []
    for length in lengths:
        ids = torch.randint(1, VOCABULARY, (length,), generator=generator).tolist()
        cut = max(1, length - supervised)
        found.append({"completion": Tokens(ids, [0.0] * cut + [1.0, 0.5, 2.0, 0.25][: length - cut])})
    return found


def logits(model: nn.Module, example: dict[str, Tokens], name: str = "completion") -> tuple[Tensor, Tensor]:
    """(N, V) the model's own logits that predict the supervised tokens of one row, and (N,) those tokens."""
    tokens = example[name]
    found = model(torch.tensor([tokens.ids]), use_cache=False).logits[0].float()
    at = [i for i in range(1, len(tokens.ids)) if tokens.loss_weights[i]]
    return found[[i - 1 for i in at]], torch.tensor([tokens.ids[i] for i in at])


def plainly(model: nn.Module, example: dict[str, Tokens], name: str = "completion") -> Tensor:
    """(N,) log-probability of each supervised token: the model's own logits, one row."""
    logits_NV, targets_N = logits(model, example, name)
    return logits_NV.log_softmax(-1).gather(1, targets_N[:, None])[:, 0]


def weights(rows: list[dict[str, Tokens]], name: str = "completion") -> Tensor:
    """(N,) those of the supervised tokens."""
    return torch.tensor([w for row in rows for w in row[name].loss_weights if w])
