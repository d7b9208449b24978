"""Packed rows: every example once, none too long, none seen by another, the same again for the same seed."""

from __future__ import annotations

import re
import signal
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback
from small_models import LAYOUTS, MODELS, Whole, build, examples, plain, plainly, weights

import core
from core import attention
from core.batch import lay_out
from core.contracts import Head, Tokens
from core.errors import Interrupted
from core.groups import groups, members
from core.layout import choose
from core.logprobs import token_logprobs
from core.micro_batches import batches
from core.resume import resume
from core.testing import tiny

MAX_LENGTH = 24
LENGTHS = [12, 3, 20, 7, 2, 24, 9, 5, 16, 4]


def packed(lengths: list[int], shares: list[float] | None = None, seed: int = 0) -> list[list[int]]:
    return groups(lengths, shares, True, MAX_LENGTH, seed)


@given(st.lists(st.integers(2, MAX_LENGTH), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_every_example_is_in_one_row_and_no_row_is_too_long(lengths):
    rows = packed(lengths)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    totals = sorted(sum(lengths[i] for i in row) for row in rows)
    assert totals[-1] <= MAX_LENGTH
    assert len(rows) < 2 or totals[0] + totals[1] > MAX_LENGTH  # no two rows would fit into one
    assert rows == packed(lengths)


@given(
    st.lists(st.tuples(st.integers(2, MAX_LENGTH), st.sampled_from([0.0, 0.5, 1.0, 2.25])), min_size=1, max_size=40),
    st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_mixed_sets_are_packed_as_often_as_their_shares_say(given_rows, seed):
    lengths, shares = map(list, zip(*given_rows, strict=True))
    rows = packed(lengths, shares, seed)
    assert all(sum(lengths[i] for i in row) <= MAX_LENGTH for row in rows)
    taken = Counter(i for row in rows for i in row)
    for i, share in enumerate(shares):
        assert int(share) <= taken[i] <= int(share) + (share % 1 > 0)
    assert rows == packed(lengths, shares, seed)


def loader(seed: int):
    return batches(examples(LENGTHS), 2, "apart", 0, seed, drawn=packed(LENGTHS))


def ids(batch) -> list[int]:
    return batch.inputs["input_ids"].flatten().tolist()[: batch.tokens]


def test_an_epoch_of_packed_batches_holds_every_token_once_and_depends_on_the_seed_alone():
    first, again, other = ([ids(batch) for batch in loader(seed)] for seed in (1, 1, 2))
    every = sorted(token for row in examples(LENGTHS) for token in row["completion"].ids)
    assert sorted(token for batch in first for token in batch) == every
    assert first == again
    assert first != other


def test_packed_batches_go_on_where_a_checkpoint_left_them():
    whole, stopped, resumed = loader(1), loader(1), loader(1)
    expected = [ids(batch) for _ in range(2) for batch in whole]
    seen = iter(stopped)
    done = [ids(next(seen))]
    resumed.load_state_dict(stopped.state_dict())
    assert done + [ids(batch) for _ in range(2) for batch in resumed] == expected


@pytest.mark.parametrize("name", MODELS)
def test_packed_rows_equal_rows_one_by_one_in_loss_and_all_gradients(name):
    model, rows = build(name), examples(LENGTHS)
    own = plain(model)
    layout = choose(model, Whole(), Head(), rows, pad=0)
    chosen = [rows[i] for i in members(packed(LENGTHS), [0, 2, 1])]
    expected_N = torch.cat([plainly(own, row) for row in chosen])
    (-(expected_N * weights(chosen)).sum()).backward()
    result = token_logprobs(model, lay_out(chosen, layout))
    torch.testing.assert_close(result.logprobs_N, expected_N, atol=1e-5, rtol=1e-5)
    (-(result.logprobs_N * result.loss_weights_N).sum()).backward()
    for (key, a), b in zip(model.named_parameters(), own.parameters(), strict=True):
        scale = b.grad.abs().max()
        torch.testing.assert_close(a.grad / scale, b.grad / scale, atol=1e-5, rtol=1e-4, msg=lambda m, k=key: k + m)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", MODELS)
def test_another_document_changes_nothing(name, layout):
    model, rows = build(name), examples([12, 9, 20, 7], supervised=4)
    if layout == "apart" and not attention.install(model):
        layout = "masked"
    other = dict(rows[1], completion=Tokens([t % 96 + 1 for t in rows[1]["completion"].ids], [0, 1] + [0.5] * 7))
    with torch.no_grad():
        before, after = (
            token_logprobs(model, lay_out([rows[0], second, *rows[2:]], layout)) for second in (rows[1], other)
        )
    changed = (before.sum("completion") - after.sum("completion")).abs()
    assert changed[[0, 2, 3]].max() < 1e-6
    assert changed[1] > 0.01


class Stopping(Callback):
    """Sends the signal that Ctrl-C sends, during a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, *given) -> None:
        if trainer.global_step == self.step - 1:
            signal.raise_signal(signal.SIGINT)


# 7 steps an epoch
@pytest.mark.parametrize("step", [3, 7, 11])
def test_a_packed_run_that_was_stopped_goes_on_exactly(tmp_path, monkeypatch, tiny_model, rows_jsonl, step):
    monkeypatch.chdir(tmp_path)
    typed = [
        "method=lora", "method.dropout=0.2", f"model.path={tiny_model}", "model.dtype=float32", "data=jsonl",
        f"data.train={rows_jsonl}", "data.packing=true", "data.max_length=128", "data.batch_size=2",
        "trainer.accelerator=cpu", "trainer.max_epochs=2", "optim.lr=1e-2", "metric=none",
    ]  # fmt: skip
    whole = core.train(core.configure(typed))
    with pytest.raises(Interrupted):
        core.train(core.configure([*typed, "run.dir=stopped"]), watch=[Stopping(step)])
    assert len((tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()) == step
    resumed = resume(tmp_path / "stopped")
    steps, again = ([(m["loss"], m["tokens"]) for m in r.metrics if m["split"] == "train"] for r in (whole, resumed))
    assert again == steps


def test_what_became_of_the_rows_is_said(tmp_path, monkeypatch, tiny_model, capsys):
    monkeypatch.chdir(tmp_path)
    tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows_with(["messages"])[:12])
    core.train(
        core.configure([
            "method=lora", f"model.path={tiny_model}", "data=jsonl", "data.train=rows.jsonl", "data.packing=true",
            "data.max_length=512", "data.tolerance=1", "metric=none", "trainer.max_steps=1", "trainer.accelerator=cpu",
        ])
    )  # fmt: skip
    said = capsys.readouterr().out
    assert re.search(r"  packed 12 examples into \d of up to 512 tokens; \d of them a batch, 1 step an epoch", said)
