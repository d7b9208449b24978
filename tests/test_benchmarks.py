"""The benchmarks run, tiny: what they write has every number, and both sides train the same thing. No test of speed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CASES = {"full": 2, "dpo": 1}
"""Some of the cases -> settings of trl in them."""

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def section(tmp_path: Path) -> Callable[..., str]:
    """``section("encoding.py")`` is what that benchmark wrote into a page of its own."""

    def run(script: str, *arguments: str) -> str:
        page = tmp_path / "page.md"
        words = [sys.executable, str(BENCHMARKS / script), "--tiny", "--page", str(page), *arguments]
        done = subprocess.run(words, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        text = page.read_text(encoding="utf-8")
        _, *sections = text.split("\n\n## ")
        assert len(sections) == 1 + arguments.count("--cases") * len(CASES)
        assert sections[-1].partition("\n\n")[2].strip() in done.stdout
        return text

    return run


def _cells(text: str, *begins: str) -> list[str]:
    """Of the first row of a table that begins so."""
    start = "| " + " | ".join(begins) + " | "
    line = next(line for line in text.splitlines() if line.startswith(start))
    return line.removeprefix(start).removesuffix(" |").split(" | ")


def test_training_beside_trl(section):
    text = section("beside_trl.py", "--cases", *CASES, "--repeats", "1")
    for case, settings in CASES.items():
        said = text.partition(f"\n## Training beside trl: {case}\n")[2].partition("\n## ")[0]
        losses = {who: float(_cells(said, who)[2]) for who in ("ours", "trl plain")}
        assert losses["ours"] == losses["trl plain"] > (0.5 if case == "dpo" else 1)
        rows = _rows(said, 3)
        assert len(rows) == settings
        (judged,) = (faster for _, faster, _ in rows if "aim" in faster)
        assert re.fullmatch(r"[\d.]+ \(aim [\d.]+: (not )?met\)", judged)
        times, shares = ([float(row[at].split()[0]) for row in rows] for at in (1, 2))
        assert times == sorted(times)
        assert min(shares) > 0
        gap, limit = re.findall(r"trl's: (\S+)\. Share of the limit: (\d+)%\.", said)[0]
        assert float(gap) < 1e-4  # of every step
        assert int(limit) > 0


def _rows(text: str, columns: int) -> list[list[str]]:
    """Of the table with so many columns, without its heading."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| trl")]
    return [cells for cells in rows if len(cells) == columns]


def test_encoding(section):
    text = section("encoding.py")
    for who in ("ours, first run", "ours, second run"):
        assert float(_cells(text, who)[1].replace(",", "")) > 0
    assert "each process: met" in text


def test_loaders_and_methods(section):
    text = section("loaders_and_methods.py")
    for method in ("lora", "adapters"):
        trained, before, after = _cells(text, f"`{method}`", "`transformers`")
        assert re.fullmatch(r"[\d,]+ \([\d.]+ %\)", trained)
        assert all(re.fullmatch(r"[\d.]+ % \([\d.]+ to [\d.]+\)", score) for score in (before, after))


def test_rows_that_cannot_be_fetched_are_an_error_of_two_lines(tmp_path):
    words = [sys.executable, str(BENCHMARKS / "beside_trl.py"), "--cases", "sft", "--page", str(tmp_path / "page.md")]
    environment = {"HOOKTUNE_CACHE": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PATH": ""}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 2
    what, fix = done.stderr.strip().splitlines()[-2:]
    assert what.startswith("error: the rows of llamafactory")
    assert fix.startswith("  fix: pip download")
    assert not (tmp_path / "page.md").exists()
