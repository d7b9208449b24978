"""What the sequences of an example begin with is computed once, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import MODELS, VOCABULARY, Whole, build, plain, plainly

from core import attention
from core.batch import lay_out
from core.contracts import Head, Tokens
from core.layout import choose
from core.logprobs import token_logprobs
from core.row_inputs import WORTH

NAMES = ("chosen", "rejected")


def pairs(shapes: list[tuple[int, int, int]]) -> list[dict[str, Tokens | float]]:
    """Random pairs of (tokens of the prompt, of one answer, of the other)."""
    generator = torch.Generator().manual_seed(sum(map(sum, shapes)))

    def some(number: int) -> list[int]:
        return torch.randint(1, VOCABULARY, (number,), generator=generator).tolist()

    found = []
    for prompt, *answers in shapes:
        begin = some(prompt)
        said = [Tokens(begin + some(n), [0.0] * prompt + [1.0] * n) for n in answers]
        found.append({**dict(zip(NAMES, said, strict=True)), "margin": float(prompt)})
    return found


PAIRS = pairs([(12, 5, 9), (20, 3, 3), (3, 6, 2), (0, 4, 7), (9, 1, 12)])


@pytest.mark.parametrize("name", MODELS)
def test_log_probabilities_and_all_gradients_are_those_of_the_rows_one_by_one(name):
    model = build(name)
    own = plain(model)
    layout = choose(model, Whole(), Head(), PAIRS, pad=0)
    batch = lay_out(PAIRS, layout)
    assert (layout == "shared") == attention.install(model), "or the fallback says so"
    expected = {key: [plainly(own, pair, key) for pair in PAIRS] for key in NAMES}
    expected_N = torch.cat([one for key in NAMES for one in expected[key]])
    result = token_logprobs(model, batch)
    torch.testing.assert_close(result.logprobs_N, expected_N, atol=1e-5, rtol=1e-5)
    weights_N = torch.linspace(-1, 2, len(expected_N))
    (result.logprobs_N * weights_N).sum().backward()
    (expected_N * weights_N).sum().backward()
    for (key, a), b in zip(model.named_parameters(), own.parameters(), strict=True):
        scale = b.grad.abs().max()
        torch.testing.assert_close(a.grad / scale, b.grad / scale, atol=1e-5, rtol=1e-4, msg=lambda m, k=key: k + m)
    for key in NAMES:
        torch.testing.assert_close(
            result.sum(key), torch.stack([one.sum() for one in expected[key]]), atol=1e-4, rtol=1e-5
        )


def test_one_answer_does_not_see_the_other():
    model = build("llama")
    assert attention.install(model)
    other = [
        {**pair, "chosen": Tokens([t % 90 + 1 for t in pair["chosen"].ids], [0.0] * 9 + [1.0])} for pair in PAIRS[4:]
    ]
    other[0]["chosen"].ids[:9] = PAIRS[4]["chosen"].ids[:9]
    with torch.no_grad():
        before, after = (token_logprobs(model, lay_out(rows, "shared")) for rows in (PAIRS[4:], other))
    assert (before.sum("rejected") - after.sum("rejected")).abs().max() < 1e-6
    assert (before.sum("chosen") - after.sum("chosen")).abs().max() > 0.01


def test_the_sequences_of_one_name_can_be_had_alone():
    model = build("llama")
    assert attention.install(model)
    whole = lay_out(PAIRS, "shared")
    with torch.no_grad():
        together = token_logprobs(model, whole)
        for key in NAMES:
            alone = whole.only(key)
            assert alone.names == (key,)
            assert alone.numbers["margin"].tolist() == [pair["margin"] for pair in PAIRS]
            torch.testing.assert_close(token_logprobs(model, alone).sum(key), together.sum(key), atol=1e-4, rtol=1e-5)


def test_it_is_taken_where_it_saves_a_twentieth():
    model = build("llama")
    assert choose(model, Whole(), Head(), PAIRS, pad=0) == "shared"
    assert choose(model, Whole(), Head(), pairs([(2, 30, 40), (0, 9, 9)]), pad=0) == "apart"
    assert choose(model, Whole(), Head(), [{"text": PAIRS[0]["chosen"]}], pad=0) == "apart"


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=6),
    st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_every_token_lies_behind_those_that_it_had_before_it(shapes, unlearned):
    """The ids, positions and boundaries of the row give back each sequence; nothing that is predicted is shared."""
    examples = pairs(shapes)
    for example in examples:
        example["chosen"].loss_weights[-1:] = [1.0] if unlearned else [0.0]
    batch = lay_out(examples, "shared")
    ids, positions = (batch.inputs[key][0] for key in ("input_ids", "position_ids"))
    bounds = batch.inputs["cu_seq_lens_q"].tolist()
    before = batch.inputs["cu_seq_lens_k"]
    assert len(before) == len(bounds) - 1
    assert bounds[-1] == len(ids)
    ends = {end - 1: (start, begin) for start, end, begin in zip(bounds, bounds[1:], before, strict=False)}
    for at, name in enumerate(NAMES):
        for i, example in enumerate(examples):
            start, (left, right) = ends[int(batch.ends_S[at * len(examples) + i])]
            places = [*range(left, right), *range(start, int(batch.ends_S[at * len(examples) + i]) + 1)]
            assert ids[places].tolist() == example[name].ids
            assert positions[places].tolist() == list(range(len(places)))
            mine = batch.owners_N == at * len(examples) + i
            learned = [k for k in range(1, len(places)) if example[name].loss_weights[k]]
            assert batch.sources_N[mine].tolist() == [places[k - 1] for k in learned]
            assert batch.targets_N[mine].tolist() == [example[name].ids[k] for k in learned]
    shared = sum(right - left for left, right in before) // 2
    assert shared >= sum(prompt for prompt, *_ in shapes if prompt >= WORTH)
