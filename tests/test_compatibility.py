"""The matrix that is shipped is complete, and says nothing that the parts' words deny."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

import core
from core import verdicts
from core.capabilities import problems, words
from core.discovery import discover

CPU = frozenset({"decoder", "causal-lm", "cpu"})


def test_all_that_words_allow_was_trained_and_nothing_else():
    combined = list(verdicts.combined(discover()))
    allowed = {tuple(o.part.name for o in one.values()) for one in combined if not any(problems(one, CPU))}
    assert allowed == verdicts.tested(), "python benchmarks/compatibility.py"
    assert 0 < len(allowed) < len(combined)


def test_every_refusal_names_a_way_that_works():
    registry = discover()
    refused = [one for one in verdicts.combined(registry) if any(problems(one, CPU))]
    assert refused
    for offers in refused:
        why = verdicts.refusal(offers, CPU, registry)
        way = why.rpartition("; ")[2].split(", or ")[0]
        changed = {axis: registry.find(axis, name) for axis, name in (word.split("=") for word in way.split())}
        assert tuple(o.part.name for o in {**offers, **changed}.values()) in verdicts.tested()


def test_a_strangers_part_is_unknown_with_each_other():
    offers = next(one for one in verdicts.combined(discover()) if not any(problems(one, CPU)))
    assert set(verdicts.of_pairs(offers).values()) == {"tested"}
    assert verdicts.untried(verdicts.of_pairs(offers)) == ""
    theirs = {**offers, "method": replace(offers["method"], distribution="theirs")}
    found = verdicts.of_pairs(theirs)
    assert {parts for parts, verdict in found.items() if verdict == "unknown"} == {p for p in found if "method=" in p}


def test_a_strangers_optimizer_data_or_metric_is_unknown_too():
    config = core.configure(["method=lora", "metric=loss"])
    assert verdicts.untried(verdicts.of_pairs(config.offers)) == ""
    for axis in ("optim", "data", "metric"):
        theirs = {**config.offers, axis: replace(config.offers[axis], distribution="theirs")}
        name = theirs[axis].part.name
        assert verdicts.untried(verdicts.of_pairs(theirs)) == f"{axis}={name} with method=lora"


def test_packages_of_other_versions_are_named(monkeypatch):
    trained = {**verdicts.matrix(), "packages": {"peft": "0.1", "pluggy": "?", "no-such": "1"}}
    monkeypatch.setattr(verdicts, "matrix", lambda: trained)
    assert verdicts.since() == f"peft 0.1, here {version('peft')}; pluggy ?, here {version('pluggy')}"


@pytest.mark.parametrize(
    ("there", "accelerator", "visible", "word"),
    [
        (True, "auto", None, "cuda"), (True, "cpu", None, "cpu"), (True, "auto", "", "cpu"), (True, "gpu", "0", "cuda"),
        (False, "auto", None, "cpu"),
    ],
)  # fmt: skip
def test_the_device_is_the_one_that_is_asked_for(monkeypatch, there, accelerator, visible, word):
    monkeypatch.setattr(Path, "exists", lambda _path: there)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert words(accelerator) & {"cpu", "cuda"} == {word}


@pytest.mark.slow
def test_each_combination_of_the_usual_loader_trains_today():
    import json
    import subprocess
    import sys

    script = Path(__file__).parent.parent / "benchmarks" / "compatibility.py"
    typed = [sys.executable, str(script), "--loader", "transformers", "--print"]
    done = subprocess.run(typed, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"names"')]
    assert [one["wrong"] for one in found] == [""] * len(found)
    assert {tuple(one["names"]) for one in found} == {one for one in verdicts.tested() if one[0] == "transformers"}
