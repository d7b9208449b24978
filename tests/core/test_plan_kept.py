"""A plan that was made before is shown again, at once; one that would be another is made anew."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core import plan_kept
from core.cli import command
from core.testing import tiny

WORDS = [
    "model.path=model", "data=jsonl", "data.train=rows.jsonl", "data.batch_size=4", "trainer.accelerator=cpu",
    "method=lora",
]  # fmt: skip

SCRIPT = """
import sys
from core.cli import command
code = command(sys.argv[1:])
print(code, sorted({"torch", "transformers", "peft", "datasets"} & sys.modules.keys()), file=sys.stderr)
"""


@pytest.fixture
def folder(tmp_path, tiny_model, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOKTUNE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(tiny_model, tmp_path / "model")
    tiny.write_rows(tmp_path / "rows.jsonl", tiny.sums())
    return tmp_path


@pytest.fixture
def made(folder, monkeypatch, capsys) -> Callable[..., bool]:
    """``made("seed=1")``: whether this plan had to be made; what is shown of a kept one is the same."""
    import core.planning

    calls: list[int] = []
    original = core.planning.planned
    monkeypatch.setattr(core.planning, "planned", lambda *given: calls.append(1) or original(*given))

    def plan(*more: str) -> bool:
        calls.clear()
        assert command(["plan", *WORDS, *more, "--json"]) == 0
        first = json.loads(capsys.readouterr().out)
        fresh = bool(calls)
        assert command(["plan", *WORDS, *more, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == first
        assert len(calls) == fresh, "the second time never"
        return fresh

    return plan


def test_the_second_time_nothing_heavy_is_imported(folder):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-c", SCRIPT, "plan", *WORDS]
    first, second = (subprocess.run(words, capture_output=True, text=True, env=environment) for _ in range(2))
    assert first.stderr.endswith("0 ['datasets', 'peft', 'torch', 'transformers']\n")
    assert second.stderr == "0 []\n"
    assert first.stdout == second.stdout
    assert "total" in first.stdout


def test_a_plan_is_made_once(made):
    assert made()
    assert not made()
    assert made("method.rank=4")
    assert not made("method.rank=4")


def test_another_model_other_rows_or_code_are_planned_anew(made, folder, monkeypatch):
    assert made()
    os.utime(folder / "rows.jsonl", (1, 1))
    assert made()
    os.utime(folder / "model" / "config.json", (1, 1))
    assert made()
    monkeypatch.setattr(plan_kept, "code_at", lambda module: ["edited"])
    assert made()
    monkeypatch.setattr(plan_kept, "_machine", lambda: ["another"])
    assert made()


def test_what_is_counted_is_of_the_model_as_it_is_now(folder, capsys):
    """Its shape is the same, what its blocks keep is not."""

    def activations() -> int:
        assert command(["plan", *WORDS, "--json"]) == 0
        return json.loads(capsys.readouterr().out)["memory"]["activations"]

    before = activations()
    config = json.loads((folder / "model" / "config.json").read_text())
    (folder / "model" / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    assert activations() != before


def test_what_may_change_unseen_is_planned_each_time(folder, monkeypatch, capsys):
    monkeypatch.setattr("plugins.jsonl.source.Files.fingerprint", lambda self: None)
    assert command(["plan", *WORDS]) == 0
    assert not (folder / "cache" / "plans").exists()


@pytest.mark.parametrize("content", ["", "{}", "[1]", "\0"])
def test_a_damaged_plan_is_made_again(made, folder, content):
    assert made()
    (file,) = (folder / "cache" / "plans").iterdir()
    file.write_text(content)
    assert made()
