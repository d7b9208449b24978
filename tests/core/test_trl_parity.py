"""The losses of trl's own trainers, on the same token ids."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import parity  # noqa: E402  # a script, not a package


@pytest.mark.parametrize("name", parity.CASES)
def test_the_first_ten_losses_equal_trls(name, tiny_model):
    ours, theirs = parity.compare(name, tiny_model, lr=1e-3)
    assert len(ours) == parity.STEPS
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert ours[-1] != pytest.approx(ours[0], abs=1e-3)  # there was something to agree on


def test_the_page_has_every_case():
    page = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
    for name in parity.CASES:
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {name} | ")]
        _, _, _, first, ours, theirs, difference, _ = map(str.strip, line.split("|"))
        assert abs(float(ours) - float(theirs)) <= 1e-4
        assert float(difference) <= 1e-4
        assert float(first) > 0
