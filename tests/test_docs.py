"""Pages that are written from the code say what the code says."""

from __future__ import annotations

import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from tests_of_projects import on_path

from core import api
from core.plugin_new import new_plugin
from core.registry import AXES

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize(
    ("page", "function"), [("hooks.md", "hooks"), ("contracts.md", "contracts_"), ("compatibility.md", "compatibility")]
)
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


def test_the_table_of_helpers_is_that_of_the_api():
    text = (DOCS / "write-a-plugin.md").read_text()
    said = {name: given.split(", ") for name, given in re.findall(r"^\| `(\w+)\((.*?)\)` \|", text, re.MULTILINE)}
    functions = {name: f for name in api.__all__ if inspect.isfunction(f := getattr(api, name))}
    parameters = {name: list(inspect.signature(f).parameters) for name, f in functions.items()}
    assert {name: found[: len(said.get(name, ()))] for name, found in parameters.items()} == said


@pytest.mark.slow
def test_the_adapter_of_the_page_keeps_its_contract(tmp_path):
    page = (DOCS / "write-a-plugin.md").read_text()
    (code,) = re.findall(r"^```python adapter\n(.*?)^```$", page, re.M | re.S)
    project = new_plugin("method", "gain", tmp_path)
    package = project / "hooktune_gain"
    (package / "method.py").write_text(code)
    record = (package / "__init__.py").read_text()
    provides, requires = re.findall(
        r"`((?:provides|requires)=frozenset\(\{[^`]+)`", page.partition("```python adapter")[2]
    )
    words = f"{provides}, {requires}"
    (package / "__init__.py").write_text(record.replace('requires=frozenset({"trainable-base"})', words))
    test = project / "tests" / "test_hooktune_gain.py"
    test.write_text(test.read_text() + "    lr = 1.0\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not real_weights", str(project)]
    done = subprocess.run(
        command, cwd=tmp_path, env=on_path(project), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:]
