"""docs/write-a-plugin.md, executed from top to bottom in a fresh environment."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "write-a-plugin.md"
STEP = re.compile(
    r"^    \$ (?P<command>[^\n]+)$|^```\w+ file=(?P<file>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@pytest.mark.slow
def test_every_block_of_the_page_works(environment, wheel, tmp_path, tiny_model):
    hooktune = environment(wheel)
    red: list[str] = []
    steps = list(STEP.finditer(PAGE.read_text()))
    assert len(steps) >= 10
    for step in steps:
        if step["file"]:
            (tmp_path / "hooktune-bitfit" / step["file"]).write_text(step["text"])
            continue
        words = shlex.split(step["command"])
        if words[0] == "pip":
            hooktune.pip(*words[1:], cwd=tmp_path)
            continue
        more = [f"model.path={tiny_model}", "trainer.accelerator=cpu"] if words[3].startswith("+") else []
        done = hooktune(*words[1:], *more, cwd=tmp_path)
        assert "Traceback" not in done.stderr, done.stderr
        if done.returncode:
            red.append(step["command"])
    assert red == []
    assert [file.name for file in (tmp_path / "dist").iterdir()] == ["hooktune_bitfit-0.1.0-py3-none-any.whl"]
