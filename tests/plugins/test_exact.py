from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from core.api import UserError, completion_tokens
from core.intervals import wilson
from plugins.exact.metric import Exact
from plugins.exact.options import ExactOptions


def exact(batch_size: int = 32) -> Exact:
    return Exact(ExactOptions(name="exact", rows=300, batch_size=batch_size))


@pytest.fixture(scope="module")
def context(tiny_model):
    from transformers import AutoTokenizer

    return SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(tiny_model))


@pytest.fixture
def model(tiny_model):
    from transformers import AutoModelForCausalLM

    # float64, so that padding cannot tip a greedy choice
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float64).eval()


class Parrot(nn.Module):
    """Says what it is told to, whatever is asked, ends, and goes on."""

    def __init__(self, tokenizer, says):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.tokenizer, self.says, self.calls = tokenizer, says, []

    def generate(self, input_ids, attention_mask, max_new_tokens, **options):
        self.calls.append({"ids": input_ids, "mask": attention_mask, "new": max_new_tokens, **options})
        said = self.tokenizer(self.says)["input_ids"] + [self.tokenizer.eos_token_id, 100, 101]
        said = torch.tensor([said] * len(input_ids))
        return torch.cat([input_ids, said], 1)


def rows(*pairs) -> list[dict[str, str]]:
    return [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]


def test_white_space_around_does_not_count_and_case_does(context):
    asked = rows(("a", "two"), ("b", " two\n"), ("c", "Two"), ("d", "two."), ("e", "twos"))
    score = exact().measure(Parrot(context.tokenizer, " two "), asked, context)
    assert (score.name, score.value, score.n, score.better) == ("exact", 2 / 5, 5, "higher")
    assert score.low < score.value < score.high
    assert score.samples[0] == {"prompt": "a", "wanted": "two", "given": "two"}
    assert len(score.samples) == 4


def test_answers_return_to_their_own_rows_whatever_the_batches(context, model):
    asked = rows(*[("What is one plus two? " * (1 + i % 4), "three" * (i % 3 + 1)) for i in range(7)])
    alone, together = (exact(size).measure(model, asked, context) for size in (1, 7))
    assert [s["prompt"] for s in together.samples] == [s["prompt"] for s in alone.samples]
    assert len({s["given"] for s in alone.samples}) > 1
    for a, b in zip(alone.samples, together.samples, strict=True):
        assert b["given"].startswith(a["given"])  # the longest wanted answer of the batch says how long it may be


def test_prompts_are_padded_on_the_left_and_the_tokenizer_stays_as_it_was(context):
    before = (context.tokenizer.padding_side, context.tokenizer.pad_token)
    parrot = Parrot(context.tokenizer, "two")
    exact(2).measure(parrot, rows(("long " * 9, "two"), ("a", "two"), ("bb", "x")), context)
    longest, others = parrot.calls
    assert longest["mask"].sum() > others["mask"].sum(1).max()
    assert others["mask"].sum(1).tolist() == sorted(others["mask"].sum(1).tolist())
    for call in parrot.calls:
        assert call["mask"][:, -1].all()
        assert (call["ids"][call["mask"] == 0] == context.tokenizer.pad_token_id).all()
        assert (call["do_sample"], call["use_cache"]) == (False, True)
    assert (longest["mask"].shape[0], others["mask"].shape[0]) == (1, 2)
    assert (context.tokenizer.padding_side, context.tokenizer.pad_token) == before


def test_one_token_more_than_the_longest_wanted_answer_is_generated(context):
    parrot = Parrot(context.tokenizer, "two")
    exact().measure(parrot, rows(("a", "two"), ("b", "fourteen and more")), context)
    assert parrot.calls[0]["new"] == len(context.tokenizer("fourteen and more")["input_ids"]) + 1


def test_a_long_prompt_is_shortened_in_the_samples(context):
    score = exact().measure(Parrot(context.tokenizer, "two"), rows(("begin " + "x" * 500 + " end", "two")), context)
    assert len(score.samples[0]["prompt"]) <= 100
    assert score.samples[0]["prompt"].startswith("begin")
    assert score.samples[0]["prompt"].endswith("end")


def test_a_model_that_learned_the_answer_scores_one(context, model):
    asked = rows(*[(f"What is {word}?", "eleven") for word in ("one", "two", "three", "four")])
    assert exact().measure(model, asked, context).value == 0
    examples = [completion_tokens(context.tokenizer, row["prompt"], row["completion"]) for row in asked]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(25):
        for tokens in examples:
            ids = torch.tensor([list(tokens.ids)])
            labels = torch.where(torch.tensor([list(tokens.loss_weights)]) > 0, ids, -100)
            model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    score = exact().measure(model, asked, context)
    assert (score.value, score.high) == (1, pytest.approx(1))
    assert score.samples[0]["given"] == "eleven"


def test_rows_without_an_answer_need_another_metric(context, model):
    with pytest.raises(UserError, match="metric=exact needs an answer") as caught:
        exact().measure(model, [{"prompt": "a", "chosen": "b", "rejected": "c"}], context)
    assert caught.value.fix == "metric=loss"


@pytest.mark.parametrize(("rows_", "size", "key"), [(0, 32, "rows"), (300, 0, "batch_size")])
def test_numbers_out_of_range_are_refused(rows_, size, key):
    with pytest.raises(UserError, match=f"metric.{key}=0"):
        ExactOptions(name="exact", rows=rows_, batch_size=size)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_mirrors(hits_n):
    hits, n = hits_n
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n + 1e-9
    assert hits / n - 1e-9 <= high <= 1
    assert low < high
    assert wilson(n - hits, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_the_interval_is_that_of_the_textbook():
    # Newcombe 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I
    assert [round(end, 4) for end in wilson(81, 263)] == [0.2553, 0.3662]
    assert [round(end, 4) for end in wilson(0, 20)] == [0.0, 0.1611]
    assert [round(end, 4) for end in wilson(1, 29)] == [0.0061, 0.1718]
