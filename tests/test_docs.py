"""Pages that are written from the code say what the code says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from core.registry import AXES

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize(("page", "function"), [("hooks.md", "hooks"), ("contracts.md", "contracts_")])
def test_generated_pages_are_up_to_date(page, function):
    generate = runpy.run_path(str(DOCS / "generate.py"))
    assert (DOCS / page).read_text() == generate[function](), "python docs/generate.py"


def test_contracts_are_written_as_the_code_has_them():
    text = (DOCS / "contracts.md").read_text()
    assert "    rows(self, split: Literal['train', 'validation']) -> " in text
    assert "## PeftMethod\n" in text
    assert "### PeftMethod.config (needed)" in text


def test_every_hook_has_a_heading():
    text = (DOCS / "hooks.md").read_text()
    assert set(re.findall(r"^## (hooktune_\w+)$", text, re.MULTILINE)) == set(AXES.values())


def test_links_between_pages_lead_somewhere():
    root = DOCS.parent
    for page in [root / "README.md", root / "CONTRIBUTING.md", *DOCS.rglob("*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
