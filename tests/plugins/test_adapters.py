"""Bottleneck adapters: where they sit, what they compute, and that the base stays as it was."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F

import core
from core.api import Head, UserError
from core.model_facts import model_facts
from core.weights import hold_masters

IDS = torch.arange(5, 17)[None]
USUAL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
GPT = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
FAMILIES = {
    "bert": USUAL | {"is_decoder": True},
    "bloom": {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "cohere": USUAL | GROUPED,
    "electra": USUAL | {"embedding_size": 32, "is_decoder": True},
    "falcon": {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "gemma": USUAL | GROUPED,
    "gemma2": USUAL | GROUPED,
    "gemma3_text": USUAL | GROUPED,
    "glm4": USUAL | GROUPED,
    "gpt2": GPT,
    "gpt_neox": USUAL,
    "gptj": GPT | {"rotary_dim": 4},
    "llama": USUAL | GROUPED,
    "mistral": USUAL | GROUPED,
    "mixtral": USUAL | GROUPED | {"num_local_experts": 4},
    "mpt": {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 4},
    "olmo2": USUAL | GROUPED,
    "openai-gpt": GPT,
    "opt": USUAL | {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "phi": USUAL,
    "phi3": USUAL | GROUPED,
    "qwen2": USUAL | GROUPED,
    "qwen3": USUAL | GROUPED,
    "qwen3_moe": USUAL | GROUPED | EXPERTS,
    "roberta": USUAL | {"is_decoder": True},
    # no language model among these: the bare encoder is taken
    "distilbert": {"vocab_size": 64, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4},
    "modernbert": USUAL,
    "mpnet": USUAL,
}


def family(name: str) -> nn.Module:
    """A tiny random model of an architecture, in eval mode."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(name, **FAMILIES[name])
    try:
        return transformers.AutoModelForCausalLM.from_config(config).eval()
    except ValueError:
        return transformers.AutoModel.from_config(config).eval()


def method(*typed: str):
    config = core.configure(["method=adapters", "method.bottleneck=6", *typed])
    return config.registry.make(config.offers["method"], config.options["method"])


def run(model: nn.Module, adapter: str = "default", continuing: bool = False, head: Head | None = None):
    """As much of a context as the method looks at."""
    return SimpleNamespace(
        adapter=adapter, continuing=continuing, facts=model_facts(model, Path("base")), head=head or Head()
    )


def output(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS)[0]


def shake(model: nn.Module, adapter: str, seed: int = 1) -> None:
    """Random weights, as after training."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if f".adapters.{adapter}." in name:
            nn.init.normal_(parameter, std=0.5)


# ------------------------------------------------------------------------------------------------- where they sit
@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer", "attention"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_starts_at_its_base_and_learns(name, placement):
    model = family(name)
    base, number = output(model), len(model_facts(model, Path("x")).blocks)
    part = method(f"method.placement={placement}")
    part.apply(model, run(model))
    assert torch.equal(output(model), base)
    acting = [n for n, p in model.named_parameters() if p.requires_grad]
    assert all(".adapters.default." in n for n in acting)
    assert len(acting) == 4 * number * (2 if placement == "houlsby" else 1)
    shake(model, "default")
    model(input_ids=IDS)[0].pow(2).sum().backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached == set(acting)
    assert (output(model) - base).abs().max() > 1e-4
    with part.using(model, ()):
        assert torch.equal(output(model), base)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_an_adapter_changes_is_what_the_residual_stream_is_given(name):
    """Silence it and a block hands its input on: as it is, or normalised again where the norms follow the sum."""
    model = family(name)
    method().apply(model, run(model))
    for module in [m for m in model.modules() if "adapters" in dict(m.named_children())]:
        module.adapters.forward = lambda _, given: (
            type(given)((given[0] * 0, *given[1:])) if isinstance(given, tuple | list) else given * 0
        )
    seen = []
    block = model.get_submodule(model_facts(model, Path("x")).blocks[-1])
    block.register_forward_hook(lambda _, args, kwargs, out: seen.append((args, kwargs, out)), with_kwargs=True)
    output(model)
    ((args, kwargs, out),) = seen
    into = args[0] if args else kwargs["hidden_states"]
    out = out if isinstance(out, torch.Tensor) else out[0]
    assert torch.allclose(out, into, atol=1e-5)
    assert into.abs().max() > 1e-3


def test_an_unknown_block_is_refused_and_what_it_holds_is_listed():
    config = transformers.CTRLConfig(vocab_size=64, n_embd=32, dff=48, n_layer=2, n_head=4, n_positions=64)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with pytest.raises(UserError, match=r"EncoderLayer, which holds multi_head_attention \(MultiHeadAttention\), ffn"):
        method().apply(model, run(model))
    bare = run(model)
    bare.facts = SimpleNamespace(blocks=(), hidden=32)
    with pytest.raises(UserError, match="CTRLLMHeadModel has no blocks"):
        method().apply(model, bare)


# ------------------------------------------------------------------------------------------------ what they compute
@pytest.mark.parametrize("norm", ["none", "before", "after"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_one_block_against_the_papers_formula(norm, activation):
    model = family("llama")
    plain = deepcopy(model)
    method(f"method.norm={norm}", f"method.activation={activation}").apply(model, run(model))
    shake(model, "default")
    w = dict(model.named_parameters())

    def adapted(h, place):
        at = f"model.layers.0.{place}.adapters.default."
        x = F.layer_norm(h, (32,), w[at + "norm_before.weight"], w[at + "norm_before.bias"]) if norm == "before" else h
        inner = getattr(torch, activation, getattr(F, activation))(x @ w[at + "down.weight"].T + w[at + "down.bias"])
        f = inner @ w[at + "up.weight"].T + w[at + "up.bias"]
        f = F.layer_norm(f, (32,), w[at + "norm_after.weight"], w[at + "norm_after.bias"]) if norm == "after" else f
        return h + f

    x = torch.randn(1, 12, 32)
    turned = model.model.rotary_emb(x, torch.arange(12)[None])
    block = plain.model.layers[0]
    with torch.no_grad():
        h = block.self_attn(block.input_layernorm(x), position_embeddings=turned, attention_mask=None)[0]
        middle = x + adapted(h, "self_attn")
        wanted = middle + adapted(block.mlp(block.post_attention_layernorm(middle)), "mlp")
        given = model.model.layers[0](x, position_embeddings=turned, attention_mask=None)
    assert torch.allclose(given, wanted, atol=1e-5)
    assert (wanted - x).abs().max() > 0.5


@pytest.mark.parametrize("norm", ["none", "before", "after"])
def test_every_norm_starts_at_the_base_and_its_first_step_is_small(norm):
    model = family("llama")
    base = output(model)
    method(f"method.norm={norm}").apply(model, run(model))
    assert torch.equal(output(model), base)
    weights = [p for p in model.parameters() if p.requires_grad]
    model(input_ids=IDS, labels=IDS).loss.backward()
    torch.optim.Adam(weights, lr=1e-5).step()
    assert 0 < (output(model) - base).abs().max() < 5e-3


def test_dropout_acts_in_training_only():
    model = family("llama")
    method("method.dropout=0.5").apply(model, run(model))
    shake(model, "default")
    assert torch.equal(output(model), output(model))
    model.train()
    assert not torch.equal(output(model), output(model))


def test_a_bfloat16_base_keeps_its_dtype_with_float32_adapters():
    model = family("gpt2").bfloat16()
    base = output(model)
    method("method.norm=before").apply(model, run(model))
    hold_masters(model)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert output(model).dtype == base.dtype == torch.bfloat16
    assert torch.equal(output(model), base)
    shake(model, "default")
    measured = output(model).float()
    with torch.autocast("cpu", torch.bfloat16):
        trained = output(model).float()
    assert (measured - trained).abs().max() < 0.05 * measured.abs().max()


# -------------------------------------------------------------------------------------------------------- the base
@pytest.mark.parametrize("quant", ["int8", "int4"])
@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
def test_quantized_bases_train(tiny_model, tmp_path, rows_jsonl, monkeypatch, quant, placement):
    monkeypatch.chdir(tmp_path)
    result = core.train(core.configure([
        "method=adapters", f"method.placement={placement}", f"quant={quant}", f"model.path={tiny_model}",
        "model.dtype=bfloat16", "data=jsonl", f"data.train={rows_jsonl}", "data.batch_size=4", "trainer.max_steps=2",
        "trainer.accelerator=cpu", "optim.lr=1e-2", "metric=none",
    ]))  # fmt: skip
    losses = [line["loss"] for line in result.metrics if line["split"] == "train"]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    moved = [p.abs().sum() for n, p in result.model.named_parameters() if n.endswith("adapters.default.up.weight")]
    assert len(moved) == (4 if placement == "houlsby" else 2)
    assert all(value > 0 for value in moved)


# ----------------------------------------------------------------------------------------------------------- several
def two(*typed: str):
    """A model with random adapters a (acting after both sublayers) and b, and the method."""
    model = family("llama")
    part = method(*typed)
    part.apply(model, run(model, "a"))
    shake(model, "a", 1)
    part.apply(model, run(model, "b"))
    shake(model, "b", 2)
    return model, part


def test_a_second_adapter_leaves_the_first_as_it_was():
    model = family("llama")
    part = method()
    part.apply(model, run(model, "a"))
    shake(model, "a")
    first, tuned = {n: p.detach().clone() for n, p in model.named_parameters()}, output(model)
    part.apply(model, run(model, "b"))
    weights = [p for p in model.parameters() if p.requires_grad]
    assert not any(p.requires_grad for n, p in model.named_parameters() if ".adapters.b." not in n)
    model(input_ids=IDS, labels=IDS).loss.backward()
    torch.optim.Adam(weights, lr=0.1).step()
    assert all(torch.equal(p, first[n]) for n, p in model.named_parameters() if n in first)
    with part.using(model, ["a"]):
        assert torch.equal(output(model), tuned)
    assert not torch.equal(output(model), tuned)


def test_switching_restores_what_acted_and_what_trains():
    model, part = two()
    before, trained = output(model), [p.requires_grad for p in model.parameters()]
    with part.using(model, ["a"]), part.using(model, ()):
        assert torch.equal(output(model), output(family("llama")))
    with pytest.raises(ZeroDivisionError), part.using(model, ["a", "b"]):
        1 / 0  # noqa: B018
    assert torch.equal(output(model), before)
    assert [p.requires_grad for p in model.parameters()] == trained
    with pytest.raises(UserError, match="no adapter 'c'"), part.using(model, ["a", "c"]):
        pass
    assert torch.equal(output(model), before)


@pytest.mark.parametrize("combine", ["stack", "average"])
def test_several_are_stacked_or_averaged(combine):
    model, part = two(f"method.combine={combine}")
    place = model.model.layers[0].mlp.adapters
    a, b, h = place["a"], place["b"], torch.randn(1, 5, 32)
    with torch.no_grad(), part.using(model, ["a", "b"]):
        stacked = h + a(h) + b(h + a(h))
        wanted = stacked if combine == "stack" else h + (a(h) + b(h)) / 2
        assert torch.allclose(place((), h), wanted, atol=1e-5)
    with torch.no_grad(), part.using(model, ["a"]):
        assert torch.allclose(place((), h), h + a(h), atol=1e-6)
    with part.using(model, ["a", "b"]):
        one = output(model)
    with part.using(model, ["b", "a"]):
        assert torch.allclose(output(model), one, atol=1e-5) == (combine == "average")


def test_adapters_in_other_places_count_in_the_average():
    model = family("llama")
    for name, placement in (("a", "pfeiffer"), ("b", "houlsby")):
        part = method(f"method.placement={placement}", "method.combine=average")
        part.apply(model, run(model, name))
        shake(model, name)
    place, h = model.model.layers[0].self_attn.adapters, torch.randn(1, 5, 32)
    with torch.no_grad(), part.using(model, ["a", "b"]):
        assert torch.allclose(place((), h), h + place["b"](h) / 2, atol=1e-6)


@pytest.mark.parametrize("name", ["default", "a.b", "", "train"])
def test_a_name_that_cannot_be_given_is_refused(name):
    model = family("llama")
    method().apply(model, run(model))
    with pytest.raises(UserError, match=r"already|cannot be called"):
        method().apply(model, run(model, name))


def test_continuing_only_makes_the_loaded_adapter_trainable(tmp_path):
    model, part = two()
    part.save(model, tmp_path / "b", "b")
    fresh = part.load(family("llama"), tmp_path / "b", "default")
    assert not any(p.requires_grad for p in fresh.parameters())
    before = output(fresh)
    method("method.bottleneck=9").apply(fresh, run(fresh, continuing=True))
    assert torch.equal(output(fresh), before)
    trained = [n for n, p in fresh.named_parameters() if p.requires_grad]
    assert len(trained) == 16
    assert all(".adapters.default." in n for n in trained)


# ------------------------------------------------------------------------------------------------------ save and load
@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt2", "bert"])
@pytest.mark.parametrize("norm", ["none", "after"])
def test_a_saved_adapter_gives_the_same_logits_in_a_new_model(tmp_path, name, norm):
    model, part = family(name), method(f"method.norm={norm}", "method.activation=silu")
    part.apply(model, run(model, "mine"))
    shake(model, "mine")
    part.save(model, tmp_path / "adapter", "mine")
    assert {f.name for f in (tmp_path / "adapter").iterdir()} == {"bottleneck_config.json", "adapter_model.safetensors"}
    again = method().load(family(name), tmp_path / "adapter", "theirs")
    assert torch.equal(output(again), output(model))
    with pytest.raises(UserError, match="'theirs' already"):
        part.load(again, tmp_path / "adapter", "theirs")


def test_a_folder_that_does_not_fit_is_refused_and_changes_nothing(tmp_path):
    model, part = two()
    with pytest.raises(UserError, match="no adapter 'c'"):
        part.save(model, tmp_path / "c", "c")
    part.save(model, tmp_path, "a")
    config, weights = tmp_path / "bottleneck_config.json", tmp_path / "adapter_model.safetensors"
    good, tensors = json.loads(config.read_text()), weights.read_bytes()
    with pytest.raises(UserError, match="holds no bottleneck adapter"):
        part.load(family("llama"), tmp_path / "nowhere", "a")
    with pytest.raises(UserError, match=r"no module model\.layers\.0\.self_attn"):
        part.load(family("gpt2"), tmp_path, "a")
    fresh = family("llama")
    for changes, said in (
        ({"hidden": 48}, "the model's are 32 wide"),
        ({"bottleneck": 7}, "do not fit at model.layers.0.self_attn"),
        ({"activation": "sine"}, "damaged"),
        ({"places": 3}, "damaged"),
    ):
        config.write_text(json.dumps(good | changes))
        with pytest.raises(UserError, match=said):
            part.load(fresh, tmp_path, "a")
    config.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        part.load(fresh, tmp_path, "a")
    config.write_text(json.dumps(good))
    weights.write_bytes(tensors[:100])
    with pytest.raises(UserError, match="damaged"):
        part.load(fresh, tmp_path, "a")
    assert torch.equal(output(fresh), output(family("llama")))


# ------------------------------------------------------------------------------------------------------ a new head
def test_a_head_that_is_new_is_trained_and_saved_with_each_adapter(tmp_path):
    head = Head("AutoModelForSequenceClassification", {"num_labels": 3})

    def classifier():
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model("llama", **USUAL, **GROUPED, num_labels=3)
        return transformers.AutoModelForSequenceClassification.from_config(config).bfloat16().eval()

    model, part = classifier(), method()
    base = output(model)
    for name in ("a", "b"):
        part.apply(model, run(model, name, head=head))
        assert torch.equal(output(model), base)
        shake(model, name)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n in trained if "score" in n} == {"score.adapters.b.weight"}
    part.save(model, tmp_path / "b", "b")
    again = part.load(classifier(), tmp_path / "b", "b")
    assert torch.equal(output(again), output(model))
    with part.using(model, ()):
        assert torch.equal(output(model), base)


# --------------------------------------------------------------------------------------------------------- a whole run
def test_a_whole_run_goes_on_from_its_folder_and_answers(tiny_model, tmp_path, rows_jsonl, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def train(path, *typed):
        return core.train(core.configure([
            "method=adapters", f"model.path={path}", "model.dtype=float32", "data=jsonl", f"data.train={rows_jsonl}",
            "data.batch_size=4", "trainer.max_steps=6", "trainer.accelerator=cpu", "optim.lr=1e-2", *typed,
        ]))  # fmt: skip

    first = train(tiny_model, "metric=loss")
    assert first.after.value < first.before.value
    again = core.load_run(first.folder)
    asked = {"prompt": "What is one plus two?", "max_new_tokens": 6}
    assert again.generate(**asked) == first.generate(**asked)
    assert torch.equal(output(again.model), output(first.model))
    with again.plan.method.using(again.model, ()):
        assert not torch.equal(output(again.model), output(first.model))
    second = train(first.folder, "metric=loss")
    assert second.before.value == pytest.approx(first.after.value)
    assert second.after.value < second.before.value


@pytest.mark.parametrize(
    "wrong",
    [
        "bottleneck=0", "bottleneck=wide", "placement=everywhere", "activation=sine", "norm=both", "dropout=1",
        "dropout=-0.1", "combine=sum", "name=lora",
    ],
)  # fmt: skip
def test_every_option_refuses_a_wrong_value(wrong):
    with pytest.raises(UserError, match=rf"method\.{wrong.partition('=')[0]}"):
        method(f"method.{wrong}")
