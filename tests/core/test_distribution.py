"""What is measured of a token's distribution, against plain formulas on the full logits; and noise on embeddings."""

from __future__ import annotations

import math

import pytest
import torch
from small_models import LAYOUTS, build, examples, logits, plain, weights

from core import attention, logit_chunks, output_layer
from core.batch import lay_out
from core.logprobs import token_logprobs
from core.neftune import noisy
from plugins.preference.pairs import measures
from plugins.sft.cross_entropy import cross_entropy
from plugins.sft.options import PretrainOptions

ROWS = [12, 3, 7, 20, 2]
NAMES = ["llama", "gemma2", "cohere"]
"""Plain, capped and scaled logits."""


def options(**given: float) -> PretrainOptions:
    return PretrainOptions(**{"name": "pretrain", "label_smoothing": 0.0, "z_loss": 0.0, "neftune_alpha": 0.0, **given})


def full(name: str):
    """A model, its rows, and (N, V) logits and (N,) targets of all supervised tokens, one row at a time."""
    model, rows = build(name), examples(ROWS)
    attention.install(model)
    own = plain(model)
    found = [logits(own, row) for row in rows]
    return model, rows, own, torch.cat([a for a, _ in found]), torch.cat([b for _, b in found])


@pytest.mark.parametrize("chunk", [512, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_label_smoothing_and_z_loss_equal_the_formula_on_full_logits(name, layout, chunk, monkeypatch):
    monkeypatch.setattr(logit_chunks, "CHUNK", chunk)
    model, rows, own, logits_NV, targets_N = full(name)
    losses_N = torch.nn.functional.cross_entropy(logits_NV, targets_N, label_smoothing=0.2, reduction="none")
    losses_N = losses_N + 0.01 * logits_NV.exp().sum(-1).log() ** 2
    expected = (losses_N * weights(rows)).sum()
    expected.backward()
    loss = cross_entropy(model.train(), lay_out(rows, layout), options(label_smoothing=0.2, z_loss=0.01))
    loss.total.backward()
    torch.testing.assert_close(loss.total, expected, atol=1e-4, rtol=1e-5)
    assert float(loss.items) == pytest.approx(float(weights(rows).sum()))
    for a, b in zip(model.parameters(), own.parameters(), strict=True):
        scale = b.grad.abs().max()
        torch.testing.assert_close(a.grad / scale, b.grad / scale, atol=1e-5, rtol=1e-4)


def test_smoothing_and_z_loss_are_left_out_of_what_is_measured():
    model, rows, _, logits_NV, targets_N = full("llama")
    plain_N = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none")
    with torch.no_grad():
        loss = cross_entropy(
            model, lay_out(rows, "apart"), options(label_smoothing=0.2, z_loss=0.01, neftune_alpha=5.0)
        )
    torch.testing.assert_close(loss.total, (plain_N * weights(rows)).sum(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("chunk", [8_000_000, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_entropy_is_the_softmaxs(name, layout, chunk, monkeypatch):
    monkeypatch.setattr(output_layer, "SLICE_BYTES", chunk)
    model, rows, _, logits_NV, _ = full(name)
    expected_N = torch.distributions.Categorical(logits=logits_NV).entropy()
    result = token_logprobs(model, lay_out(rows, layout), also=("entropy",))
    assert not result.entropy_N.requires_grad
    torch.testing.assert_close(result.entropy_N, expected_N.detach(), atol=1e-5, rtol=1e-5)
    total, items = measures(result, *[torch.zeros(5)] * 4)["entropy"]
    assert float(total) / items == pytest.approx(float(expected_N.mean()), abs=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sums_means_and_weights_are_per_sequence_in_every_layout(layout):
    model = build("llama")
    attention.install(model)
    pairs = [
        {"chosen": a["completion"], "rejected": b["completion"]}
        for a, b in zip(examples([9, 5, 2]), examples([6, 11, 30]), strict=True)
    ]
    result = token_logprobs(model, lay_out(pairs, layout))
    for name in ("chosen", "rejected"):
        for i, pair in enumerate(pairs):
            logits_NV, targets_N = logits(model, pair, name)
            logprobs_N = logits_NV.log_softmax(-1)[torch.arange(len(targets_N)), targets_N]
            weights_N = weights([pair], name)
            total, weight = float((logprobs_N * weights_N).sum()), float(weights_N.sum())
            assert float(result.sum(name)[i]) == pytest.approx(total, rel=1e-5)
            assert float(result.weight(name)[i]) == weight
            assert float(result.mean(name)[i]) == pytest.approx(total / weight, rel=1e-5)
            ones = torch.ones_like(result.loss_weights_N)
            assert float(result.sum(name, ones)[i]) == pytest.approx(float(logprobs_N.sum()), rel=1e-5)
            assert float(result.weight(name, ones)[i]) == len(targets_N)


# ------------------------------------------------------------------------------------------------------------- NEFTune
def noise(model, rows, layout: str, alpha: float, seed: int = 0) -> torch.Tensor:
    """What is added to the embeddings of a batch: (rows, tokens, H); of one row, without what fills it."""
    batch = lay_out(rows, layout)
    ids = batch.inputs["input_ids"] if layout == "padded" else batch.inputs["input_ids"][:, : batch.tokens]
    embeddings = model.get_input_embeddings()
    torch.manual_seed(seed)
    with torch.no_grad(), noisy(model, batch, alpha):
        loud = embeddings(batch.inputs["input_ids"])[:, : ids.shape[1]]
    with torch.no_grad():
        return loud - embeddings(ids)


def reach(found: torch.Tensor) -> float:
    return float(found.abs().max())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_noise_reaches_as_far_as_the_paper_says_whatever_a_row_is_batched_with(layout):
    model = build("llama").train()
    short, long = examples([6, 40])
    beside = noise(model, [short, long], layout, alpha=5.0)
    of_short = beside[0, :6]
    of_long = beside[1] if layout == "padded" else beside[0, 6:]
    for found, length in ((of_short, 6), (of_long, 40), (noise(model, [short], layout, 5.0), 6)):
        bound = 5.0 / math.sqrt(length * 32)
        assert 0.9 * bound < reach(found) <= bound * 1.0001
        assert float(found.mean()) == pytest.approx(0, abs=0.2 * bound)


def test_noise_depends_on_the_seed_alone():
    model, rows = build("llama").train(), examples([6, 9])
    assert torch.equal(noise(model, rows, "apart", 5.0), noise(model, rows, "apart", 5.0))
    assert not torch.equal(noise(model, rows, "apart", 5.0), noise(model, rows, "apart", 5.0, seed=1))


def test_there_is_no_noise_in_eval_without_alpha_or_afterwards():
    model, rows = build("llama"), examples([6, 9])
    assert reach(noise(model.eval(), rows, "apart", 5.0)) == 0
    assert reach(noise(model.train(), rows, "apart", 0.0)) == 0
    assert reach(noise(model, rows, "apart", 5.0)) > 0
    assert reach(noise(model, rows, "apart", 0.0)) == 0


def test_noise_reaches_the_loss():
    model, rows = build("llama").train(), examples([6, 9])
    batch = lay_out(rows, "masked")
    quiet, loud = (float(cross_entropy(model, batch, options(neftune_alpha=alpha)).total) for alpha in (0.0, 5.0))
    assert quiet != pytest.approx(loud, abs=1e-3)
