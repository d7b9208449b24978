"""The step: log-probabilities, loss and gradients of every layout equal the plain forward, row by row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import LAYOUTS, MODELS, SMALL, VOCABULARY, Whole, build, examples, plain, plainly, weights
from transformers import LlamaConfig, LlamaForCausalLM

from core import attention, logit_chunks, logprobs
from core.batch import lay_out
from core.contracts import Head
from core.layout import choose
from core.logprobs import token_logprobs


class Padded(Whole):
    layout = "padded"


def same_gradients(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        scale = b.grad.abs().max()
        torch.testing.assert_close(a.grad / scale, b.grad / scale, atol=1e-5, rtol=1e-4, msg=lambda m, k=name: k + m)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", MODELS)
def test_every_layout_equals_row_by_row_in_loss_and_all_gradients(name, layout):
    model, rows = build(name), examples([12, 3, 7, 20, 2])
    own = plain(model)
    if layout == "apart" and not attention.install(model):
        layout = choose(model, Whole(), Head(), rows, pad=0)
    weights_N = weights(rows)
    expected_N = torch.cat([plainly(own, row) for row in rows])
    (-(expected_N * weights_N).sum()).backward()

    result = token_logprobs(model, lay_out(rows, layout))
    torch.testing.assert_close(result.logprobs_N, expected_N, atol=1e-5, rtol=1e-5)
    assert not logprobs._endings[model].plain  # full logits were never made
    (-(result.logprobs_N * result.loss_weights_N).sum()).backward()
    same_gradients(model, own)


@pytest.mark.parametrize("name", MODELS)
def test_usual_models_take_the_quick_layout(name, caplog):
    assert choose(build(name), Whole(), Head(), examples([12, 5, 7]), pad=0) == "apart"
    assert [record for record in caplog.records if record.name == "hooktune"] == []  # transformers talks on build


def test_a_method_that_needs_rows_gets_padded_ones():
    assert choose(build("llama"), Padded(), Head(), examples([12, 5, 7]), pad=0) == "padded"


def test_a_model_that_mixes_sequences_up_gets_padded_rows_and_says_so(caplog):
    model = build("llama")
    forward = model.forward

    def without_positions(input_ids, position_ids=None, cu_seq_lens_q=None, cu_seq_lens_k=None, **rest):
        return forward(input_ids=input_ids, **rest)

    without_positions.__signature__ = __import__("inspect").signature(forward)
    model.forward = without_positions
    assert choose(model, Whole(), Head(), examples([12, 5, 7]), pad=0) == "padded"
    assert "mixes up sequences" in caplog.text


@given(st.lists(st.integers(2, 17), min_size=1, max_size=6), st.sampled_from(["apart", "masked", "padded"]))
@settings(max_examples=30, deadline=None)
def test_layouts_agree_for_any_lengths(lengths, layout):
    model = build("llama")
    rows = examples(lengths)
    choose(model, Whole(), Head(), rows, pad=0)
    expected = torch.cat([plainly(model, row) for row in rows])
    torch.testing.assert_close(token_logprobs(model, lay_out(rows, layout)).logprobs_N, expected, atol=1e-5, rtol=1e-5)


def test_chunks_change_nothing(monkeypatch):
    model, rows = build("llama"), examples([30, 9, 14], supervised=3)
    batch = lay_out(rows, "masked")
    whole = token_logprobs(model, batch, also=("uniform",)).uniform_N
    gradients = torch.autograd.grad(whole.sum(), list(model.parameters()))
    monkeypatch.setattr(logit_chunks, "CHUNK", 2)
    pieces = token_logprobs(model, batch, also=("uniform",)).uniform_N
    torch.testing.assert_close(pieces, whole)
    for a, b in zip(torch.autograd.grad(pieces.sum(), list(model.parameters())), gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_full_logits_never_exist(monkeypatch):
    model, rows = build("llama"), examples([40, 40, 40])
    seen = []
    head = model.lm_head
    head.register_forward_hook(lambda _m, _a, out: seen.append(out.shape[:-1].numel()))
    batch = lay_out(rows, "masked")
    token_logprobs(model, batch)  # the first batch compares, on a few positions
    seen.clear()
    token_logprobs(model, batch)
    assert seen == [1]  # one position of the model's own; the rest: tests/core/test_output_layer.py
    token_logprobs(model, batch, also=("uniform",))
    assert seen[1:] == [1, len(batch.targets_N)] == [1, 9]


def test_logits_of_an_unknown_kind_are_taken_from_the_model(caplog):
    class Shifted(LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = out.logits + torch.linspace(0, 3, VOCABULARY)
            return out

    torch.manual_seed(0)
    model = Shifted(LlamaConfig(**SMALL)).eval()
    rows = examples([12, 5, 7])
    expected = torch.cat([plainly(model, row) for row in rows])
    torch.testing.assert_close(
        token_logprobs(model, lay_out(rows, "padded")).logprobs_N, expected, atol=1e-5, rtol=1e-5
    )
    assert "in a way of its own" in caplog.text


def test_sums_and_means_are_per_sequence_and_name():
    model = build("llama")
    pairs = [
        {"chosen": a["completion"], "rejected": b["completion"], "label": float(i)}
        for i, (a, b) in enumerate(zip(examples([9, 5]), examples([6, 11]), strict=True))
    ]
    result = token_logprobs(model, lay_out(pairs, "masked"))
    for name in ("chosen", "rejected"):
        one_by_one = [plainly(model, {"completion": pair[name]}) for pair in pairs]
        weights = [torch.tensor([w for w in pair[name].loss_weights if w]) for pair in pairs]
        sums = torch.stack([(row * weight).sum() for row, weight in zip(one_by_one, weights, strict=True)])
        torch.testing.assert_close(result.sum(name), sums, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(result.mean(name), sums / torch.stack([w.sum() for w in weights]))
    assert lay_out(pairs, "masked").numbers["label"].tolist() == [0.0, 1.0]


def test_ends_point_at_the_last_token():
    rows = examples([9, 5, 7])
    row = lay_out(rows, "apart")
    assert row.ends("completion").tolist() == [8, 13, 20]
    assert (row.tokens, row.inputs["input_ids"].shape[1], row.inputs["cu_seq_lens_q"].tolist()) == (
        21,
        32,
        [0, 9, 14, 21, 32],
    )
    assert lay_out(rows, "padded").ends("completion").tolist() == [8, 13, 24]
