"""What the preference objectives sum and log, against the same worked out one sequence at a time.

Losses as trl's trainers compute them are compared in tests/core/test_trl_parity.py; here is what that cannot see.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from statistics import mean
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid

import core
from core.batch import lay_out
from core.contracts import Tokens
from core.testing import tiny
from core.testing.rig import Rig
from plugins.preference.kto import KTO
from plugins.preference.orpo import _log1mexp

PAIRS = ("prompt", "chosen", "rejected")


@pytest.fixture
def rig(tmp_path, tiny_model):
    """``rig("dpo", "objective.beta=0.2")``: four examples of unequal length, and a model."""

    def make(objective: str, *more: str, columns: tuple[str, ...] = PAIRS) -> tuple[Rig, Any]:
        rows = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows_with(columns)[5:25:5])
        found = Rig(
            [f"model.path={tiny_model}", "model.dtype=float32", "method=full", f"objective={objective}", "data=jsonl",
             f"data.train={rows}", "data.holdout=0", "data.tolerance=1", "trainer.accelerator=cpu", "metric=none",
             "data.batch_size=4", *more]
        )  # fmt: skip
        return found, found.base()

    return make


def said(model: Any, value: Any) -> tuple[float, int]:
    """Log-probability of an example's answer, and the number of its tokens, by a plain forward."""
    assert isinstance(value, Tokens)
    ids = torch.tensor([list(value.ids)])
    with torch.no_grad():
        logprobs = model(input_ids=ids).logits.log_softmax(-1)
    # orpo marks prompts, which are none of the answer
    learned = [at for at, weight in enumerate(value.loss_weights) if at and weight == 1]
    return sum(float(logprobs[0, at - 1, value.ids[at]]) for at in learned), len(learned)


def logged(loss: Any) -> dict[str, float]:
    return {name: float(total) / float(items) for name, (total, items) in loss.metrics.items()}


def with_numbers(examples: Any, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """References that are not what the model says, other ones for each example."""
    return [{**e, **{n: -30.0 - 3 * i - 5 * k for k, n in enumerate(names)}} for i, e in enumerate(examples)]


@pytest.mark.parametrize(
    ("objective", "per_token", "references"),
    [("dpo", False, ("reference_chosen", "reference_rejected")), ("cpo", False, ()), ("simpo", True, ()),
     ("orpo", True, ())],
)  # fmt: skip
def test_what_is_logged_of_pairs(rig, objective, per_token, references):
    rig, model = rig(objective)
    examples = with_numbers(rig.data.train.examples, references)
    found = logged(rig.plan.objective.loss(model, lay_out(examples, "padded", 0)))
    beta = rig.plan.config.options["objective"].beta
    scores: dict[str, list[float]] = {}
    for name in ("chosen", "rejected"):
        sums = [said(model, example[name]) for example in examples]
        scores[name] = [total / (number if per_token else 1) for total, number in sums]
    rewards = {
        name: [
            beta * (score - e.get(f"reference_{name}", 0.0)) for score, e in zip(scores[name], examples, strict=True)
        ]
        for name in scores
    }
    margins = [a - b for a, b in zip(rewards["chosen"], rewards["rejected"], strict=True)]
    wanted = {
        "rewards/chosen": mean(rewards["chosen"]),
        "rewards/rejected": mean(rewards["rejected"]),
        "rewards/margins": mean(margins),
        "rewards/accuracies": mean(float(margin > 0) for margin in margins),
        "logps/chosen": mean(scores["chosen"]),
        "logps/rejected": mean(scores["rejected"]),
    }
    assert abs(wanted["rewards/margins"]) > 0
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=1e-4), name
    assert 0 < found["entropy"] < 7


def test_a_tie_is_half_right(rig):
    rig, model = rig("dpo")
    (example, *_) = rig.data.train.examples
    same = {**example, "rejected": example["chosen"], "reference_chosen": -1.0, "reference_rejected": -1.0}
    found = logged(rig.plan.objective.loss(model, lay_out([same], "padded", 0)))
    assert found["rewards/accuracies"] == 0.5


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_likelihood_beside_cpo_is_each_answers_own_mean(rig, weight):
    rig, model = rig("cpo", f"objective.nll_weight={weight}")
    o = rig.plan.config.options["objective"]
    assert o.nll == "pair"
    loss = rig.plan.objective.loss(model, lay_out(rig.data.train.examples, "padded", 0))
    wanted = 0.0
    for example in rig.data.train.examples:
        (chosen, number), (rejected, _) = said(model, example["chosen"]), said(model, example["rejected"])
        wanted -= float(logsigmoid(torch.tensor(o.beta * (chosen - rejected)))) + weight * chosen / number
    assert float(loss.total) == pytest.approx(wanted, abs=1e-4)
    assert loss.items == len(rig.data.train.examples)


def test_the_odds_of_orpo_and_its_likelihood(rig):
    rig, model = rig("orpo")
    o = rig.plan.config.options["objective"]
    assert o.nll == "pair"
    loss = rig.plan.objective.loss(model, lay_out(rig.data.train.examples, "padded", 0))
    wanted, odds = 0.0, []
    for example in rig.data.train.examples:
        a, b = (total / number for total, number in (said(model, example[n]) for n in ("chosen", "rejected")))
        p, q = torch.tensor(a, dtype=torch.float64).exp(), torch.tensor(b, dtype=torch.float64).exp()
        odds.append(float((p / (1 - p)).log() - (q / (1 - q)).log()))
        wanted -= a + o.beta * float(logsigmoid(torch.tensor(odds[-1])))
    assert float(loss.total) == pytest.approx(wanted, abs=1e-4)
    assert logged(loss)["log_odds"] == pytest.approx(mean(odds), abs=1e-4)


@pytest.mark.parametrize("objective", ["dpo", "cpo", "simpo"])
def test_smoothing_takes_some_labels_for_wrong(rig, objective):
    """(1 - e) times the loss of the pair as it is, and e times that of the pair turned round."""
    none = ["objective.nll_weight=0"] if objective == "cpo" else ["objective.margin=0"] if objective == "simpo" else []
    names = ("reference_chosen", "reference_rejected") if objective == "dpo" else ()
    losses: dict[str, float] = {}
    for smoothing in ("0.0", "0.2"):
        found, model = rig(objective, f"objective.label_smoothing={smoothing}", *none)
        examples = with_numbers(found.data.train.examples, names)
        losses[smoothing] = float(found.plan.objective.loss(model, lay_out(examples, "padded", 0)).total)
        turned = [{**e, "chosen": e["rejected"], "rejected": e["chosen"]} for e in examples]
        if names:
            turned = [
                {**t, names[0]: e[names[1]], names[1]: e[names[0]]} for t, e in zip(turned, examples, strict=True)
            ]
        losses[f"turned {smoothing}"] = float(found.plan.objective.loss(model, lay_out(turned, "padded", 0)).total)
    assert losses["0.2"] == pytest.approx(0.8 * losses["0.0"] + 0.2 * losses["turned 0.0"], abs=1e-4)
    assert losses["0.2"] != pytest.approx(losses["0.0"], abs=1e-3)


def test_what_is_logged_of_labelled_answers(rig):
    rig, model = rig("kto", columns=("prompt", "completion", "label"))
    examples = with_numbers(rig.data.train.examples, ("reference_completion", "reference_mismatched"))
    assert {example["label"] for example in examples} == {0.0, 1.0}
    loss = rig.plan.objective.loss(model, lay_out(examples, "padded", 0))
    found, o = logged(loss), rig.plan.config.options["objective"]
    moved = [said(model, e["mismatched"])[0] - e["reference_mismatched"] for e in examples]
    z = max(0.0, mean(moved))
    logps = [said(model, e["completion"])[0] for e in examples]
    ratios = [logp - e["reference_completion"] for logp, e in zip(logps, examples, strict=True)]
    signs = [1 if e["label"] else -1 for e in examples]
    weights = {1: o.desirable_weight, -1: o.undesirable_weight}
    wanted = sum(
        weights[sign] * (1 - float(torch.sigmoid(torch.tensor(o.beta * sign * (ratio - z)))))
        for sign, ratio in zip(signs, ratios, strict=True)
    )
    assert float(loss.total) == pytest.approx(wanted, abs=1e-4)
    assert found["kl"] == pytest.approx(z, abs=1e-3)
    for name, sign in (("chosen", 1), ("rejected", -1)):
        mine = [(ratio, logp) for ratio, logp, other in zip(ratios, logps, signs, strict=True) if other == sign]
        assert found[f"rewards/{name}"] == pytest.approx(o.beta * mean(r for r, _ in mine), abs=1e-4)
        assert found[f"logps/{name}"] == pytest.approx(mean(p for _, p in mine), abs=1e-4)
    right = mean(float(sign * (ratio - z) > 0) for sign, ratio in zip(signs, ratios, strict=True))
    assert found["rewards/accuracies"] == pytest.approx(right)


def test_kto_gives_each_row_the_answer_of_the_one_before_it_in_its_block(rig):
    rig, _ = rig("kto", columns=("prompt", "completion", "label"))
    objective = rig.plan.objective
    assert isinstance(objective, KTO)
    objective.options = replace(objective.options, block=4)
    for number, pairs in (
        (4, [3, 0, 1, 2]),
        (6, [3, 0, 1, 2, 5, 4]),
        (9, [3, 0, 1, 2, 8, 4, 5, 6, 7]),  # the last would be alone in its block, and get its own
    ):
        rows = [{"prompt": f"q{i}", "completion": f"a{i}", "label": bool(i % 2)} for i in range(number)]
        prepared = objective.prepare_rows(Dataset.from_list(rows)).to_list()
        assert [row["mismatched"] for row in prepared] == [f"a{i}" for i in pairs]
        assert [row["completion"] for row in prepared] == [f"a{i}" for i in range(number)]


def test_kto_passes_over_an_answer_to_the_same_prompt(rig):
    rig, _ = rig("kto", columns=("prompt", "completion", "label"))
    rows = [{"prompt": f"q{i // 2}", "completion": f"a{i}", "label": not i % 2} for i in range(4)]
    prepared = rig.plan.objective.prepare_rows(Dataset.from_list(rows)).to_list()
    assert [row["mismatched"] for row in prepared] == ["a3", "a3", "a1", "a1"]


@pytest.mark.parametrize("lost", [None, ""])
def test_kto_gives_no_row_an_answer_that_is_not_there(rig, lost):
    rig, _ = rig("kto", columns=("prompt", "completion", "label"))
    answers = ["a0", lost, "a2", "a3"]  # the second is refused when it is encoded
    rows = [{"prompt": f"q{i}", "completion": answer, "label": True} for i, answer in enumerate(answers)]
    prepared = rig.plan.objective.prepare_rows(Dataset.from_list(rows)).to_list()
    assert [row["mismatched"] for row in prepared if row["completion"]] == ["a3", "a0", "a2"]


def test_pairs_that_say_the_opposite_are_counted(rig):
    rig, _ = rig("dpo")
    one, other, *_ = rig.data.train.examples
    turned = {**one, "chosen": one["rejected"], "rejected": one["chosen"]}
    assert list(rig.plan.objective.check_examples([one, other, one])) == []
    said = list(rig.plan.objective.check_examples([one, turned, other, one]))
    assert said == ["pairs that are there the other way round, too: 1"]


@pytest.mark.parametrize("x", [-1e-6, -1e-3, -0.5, -1.0, -20.0])
def test_the_odds_of_a_near_certainty_are_exact(x):
    """In float32, where ``1 - exp(x)`` keeps a digit or none; ``math`` has sixteen."""
    found = float(_log1mexp(torch.tensor([x]))[0])
    x = float(torch.tensor(x))
    assert found == pytest.approx(math.log(-math.expm1(x)), rel=1e-5)


def test_a_validation_pass_without_training_says_what_training_says(tmp_path, tiny_model, monkeypatch):
    """On top of an adapter, in half precision, where products under autocast are others than without."""
    monkeypatch.chdir(tmp_path)
    answers = tiny.write_rows(tmp_path / "answers.jsonl", tiny.sums())
    pairs = tiny.write_rows(tmp_path / "pairs.jsonl", tiny.rows_with(PAIRS)[:16])
    usual = ["model.dtype=bfloat16", "method=lora", "data=jsonl", "data.tolerance=1", "trainer.accelerator=cpu",
             "metric=none", "data.holdout=0"]  # fmt: skip
    first = [f"model.path={tiny_model}", *usual, f"data.train={answers}", "trainer.max_steps=20", "optim.lr=3e-2"]
    core.train(core.configure([*first, "run.dir=sft"]))
    second = ["model.path=sft", *[line for line in usual if line != "data.holdout=0"], "objective=dpo"]
    second += [f"data.train={pairs}", f"data.validation={pairs}", "optim.lr=0", "trainer.limit_val_batches=1.0"]
    result = core.train(core.configure([*second, "data.batch_size=4", "run.dir=dpo"]))
    found = [line for line in result.metrics if line["split"] in ("train", "validation")]
    assert {line["split"] for line in found} == {"train", "validation"}
    for line in found:
        assert line["loss"] == pytest.approx(0.693147, abs=1e-5)
        assert line["rewards/accuracies"] == 0.5


def test_the_margin_of_held_out_pairs_stands_under_the_share_on_the_right_side(tmp_path, tiny_model, capsys):
    """And is what the objective logs of the same rows, with its interval, also when the run is read again."""
    pairs = tiny.write_rows(tmp_path / "pairs.jsonl", tiny.rows_with(PAIRS)[:16])
    result = core.train(
        core.configure(
            [f"model.path={tiny_model}", "model.dtype=float32", "method=lora", "objective=dpo", "data=jsonl",
             f"data.train={pairs}", f"data.validation={pairs}", "data.tolerance=1", "trainer.accelerator=cpu",
             "metric=preference", "optim.lr=1e-2", "trainer.limit_val_batches=1.0", f"run.dir={tmp_path}/dpo"]
        )
    )  # fmt: skip
    validation = [line for line in result.metrics if line["split"] == "validation"][-1]
    assert result.before is not None
    assert result.after is not None
    (before,), (after,) = result.before.also, result.after.also
    assert (before.name, before.value, after.n) == ("margin", pytest.approx(0, abs=1e-6), 16)
    assert after.value == pytest.approx(validation["rewards/margins"], rel=1e-4)
    assert after.value > 0.01
    assert after.low < after.value < after.high
    assert core.load_run(result.folder).after == result.after
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("margin (n=16) ")]
    assert re.fullmatch(rf"margin \(n=16\) +│ -?0.0000  \(.*\) +│ {after.value:.4f}  \(.*\) *", line)
