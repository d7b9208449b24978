"""The matrix that is shipped is complete, and says nothing that the parts' words deny."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core import verdicts
from core.capabilities import problems
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


@pytest.mark.slow
def test_each_combination_of_the_usual_loader_trains_today():
    import json
    import subprocess
    import sys
    from pathlib import Path

    script = Path(__file__).parent.parent / "benchmarks" / "compatibility.py"
    words = [sys.executable, str(script), "--loader", "transformers", "--print"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"names"')]
    assert [one["wrong"] for one in found] == [""] * len(found)
    assert {tuple(one["names"]) for one in found} == {one for one in verdicts.tested() if one[0] == "transformers"}
