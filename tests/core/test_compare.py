"""``compare``: what differs between runs, and whether what they measured differs by more than chance."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import core
from core.cli import command
from core.compare import made_of, paired_lines
from core.paired import difference
from core.result import Result


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_model: Path, rows_jsonl: Path) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("runs")
    usual = [
        f"model.path={tiny_model}", "model.dtype=float32", "data=jsonl", f"data.train={rows_jsonl}",
        "data.max_length=64", "data.holdout=0.25", "trainer.accelerator=cpu", "trainer.max_steps=3", "metric=loss",
    ]  # fmt: skip
    typed = {
        "low": ["method=lora", "method.rank=4"],
        "high": ["method=lora", "method.rank=32", "optim.lr=0.05"],
        "other": ["method=lora", "method.rank=4", "data.holdout=0.5"],
        "exact": ["method=lora", "method.rank=4", "metric=exact"],
        "none": ["method=full", "metric=none"],
    }
    found: dict[str, Result] = {}
    for name, own in typed.items():
        keys = {line.partition("=")[0] for line in own}
        kept = [line for line in usual if line.partition("=")[0] not in keys]
        core.train(core.configure([*kept, *own, f"run.dir={folder}/{name}"]))
        found[name] = core.load_run(f"{folder}/{name}")
    return found


def test_what_differs_is_shown_and_nothing_else(runs, capsys):
    assert command(["compare", str(runs["low"].folder), str(runs["high"].folder)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    keys = {line.split()[0] for line in lines[2:] if "│" in line}
    assert {"method.rank", "optim.lr", "after", "loss", "seconds", "peak_memory", "predicted_memory"} <= keys
    assert not {"method.alpha", "seed", "method", "model.path", "run.dir", "weights", "package"} & keys
    assert lines[-1].startswith("high against low: loss ")
    assert "on the same 16 rows, p = " in lines[-1]


def test_the_test_is_that_of_the_rows(runs):
    (line,) = paired_lines([runs["low"], runs["high"]])
    a, b = runs["low"].after.of_rows, runs["high"].after.of_rows
    assert len(a) == len(b) == 16
    found = difference(a, b)
    assert found.mean == pytest.approx(runs["high"].after.value - runs["low"].after.value, abs=1e-6)
    assert f"{found.mean:+.4g}" in line
    assert f"p = {found.p:.2g}" in line


def test_other_rows_and_other_metrics_are_not_tested(runs):
    assert list(paired_lines([runs["low"], runs["other"]])) == [
        "other against low: they measured other rows, so no test"
    ]
    assert list(paired_lines([runs["low"], runs["exact"]])) == [
        "exact against low: they measured loss and exact, so no test"
    ]
    assert list(paired_lines([runs["low"], runs["none"]])) == []


def test_losses_of_two_objectives_are_not_tested(runs, tmp_path):
    """Both are called ``loss``."""
    shutil.copytree(runs["high"].folder, tmp_path / "dpo")
    lock = tmp_path / "dpo" / "lock.json"
    lock.write_text(lock.read_text().replace('"name": "sft"', '"name": "dpo"'))
    assert list(paired_lines([runs["low"], core.load_run(str(tmp_path / "dpo"))])) == [
        "dpo against low: they measured the loss of sft and of dpo, so no test"
    ]


def test_a_run_is_made_of_its_options_parts_packages_and_hashes(runs):
    found = made_of(runs["low"])
    for key in ("method.rank", "method", "package torch", "train rows", "weights", "python", "cpu", "state"):
        assert found[key] not in ("", "-")


@pytest.mark.parametrize("words", [[], ["one"], ["one", "--two"], ["nowhere", "neither"]])
def test_what_is_no_run_is_said(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(["compare", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize(("file", "text"), [("lock.json", "{}"), ("lock.json", "[]"), ("config.yaml", "a: [")])
def test_a_damaged_run_is_said_in_two_lines(runs, tmp_path, capsys, file, text):
    shutil.copytree(runs["low"].folder, tmp_path / "damaged")
    (tmp_path / "damaged" / file).write_text(text)
    assert command(["compare", str(runs["low"].folder), str(tmp_path / "damaged")]) == 2
    said = capsys.readouterr().err
    assert file in said
    assert len(said.splitlines()) == 2


@given(right=st.integers(0, 12), wrong=st.integers(0, 12))
@settings(max_examples=25, deadline=None)
def test_of_answers_that_are_right_or_wrong_it_is_mcnemars_test(right, wrong):
    """Exact, two-sided: the discordant rows are tosses of a fair coin."""
    first = [0.0] * right + [1.0] * wrong + [1.0] * 5
    second = [1.0] * right + [0.0] * wrong + [1.0] * 5
    tosses, fewer = right + wrong, min(right, wrong)
    tail = sum(math.comb(tosses, k) for k in range(fewer + 1)) / 2**tosses
    exact = min(1.0, 2 * tail)
    assert difference(first, second).p == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("rows", [60, 400])
def test_the_interval_is_that_of_the_mean(rows):
    """Of many rows the bootstrap's is the normal one: 1.96 standard errors to either side."""
    random = np.random.default_rng(rows)
    first, second = random.normal(0, 1, rows), random.normal(0.3, 2, rows)
    found = difference(first, second)
    half = 1.96 * (second - first).std(ddof=1) / math.sqrt(rows)
    assert found.high - found.mean == pytest.approx(half, rel=0.1)
    assert found.mean - found.low == pytest.approx(half, rel=0.1)
