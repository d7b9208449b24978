"""Rules of the tree that no tool checks by itself."""

from __future__ import annotations

import ast
import os
import shutil
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from core.discovery import discover
from core.registry import AXES

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for folder in ("core", "plugins", "conf") for path in (ROOT / folder).rglob("*.py"))
YAMLS = sorted(path for folder in ("conf", "plugins", "docs") for path in (ROOT / folder).rglob("*.yaml"))
SAY_NOTHING = {"utils", "util", "helpers", "common", "base", "misc", "tools"}
WITHOUT_A_PART = {"common", "auto", "none"}  # shared values; metric's words for "what suits the data" and "nothing"


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_names_say_what_is_inside():
    assert [path for path in [*SOURCES, *(ROOT / "tests").rglob("*.py")] if path.stem in SAY_NOTHING] == []


def test_conf_holds_values_only():
    assert list((ROOT / "conf").rglob("*.py")) == [ROOT / "conf" / "__init__.py"]


def test_test_files_have_names_of_their_own():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
    markers = [path for path in (ROOT / "tests").rglob("__init__.py") if "data" not in path.parts]
    assert markers == [], "pytest finds tests by file name; packages would need names of their own too"


def test_sizes():
    sizes = {path.relative_to(ROOT).as_posix(): lines(path) for path in SOURCES if path.stat().st_size}
    assert statistics.median(sizes.values()) <= 120
    long = {name: size for name, size in sizes.items() if size > 250 and name != "core/contracts.py"}
    assert len(long) <= 3, long
    assert max(long.values(), default=0) <= 400, long
    assert sizes["core/hookspecs.py"] <= 200
    assert sizes["core/run.py"] <= 70


def test_there_are_ten_hooks_at_most():
    tree = ast.parse((ROOT / "core" / "hookspecs.py").read_text(encoding="utf-8"))
    hooks = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert set(AXES.values()) == set(hooks)
    assert len(hooks) <= 10


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_value_has_a_comment(path: Path):
    text = path.read_text(encoding="utf-8")
    node = yaml.compose(text)
    assert node is None or list(values_without_comment(node, text.splitlines())) == []


def values_without_comment(node: yaml.Node, text: list[str]) -> Iterator[str]:
    for key, value in node.value:
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from values_without_comment(value, text)
        elif key.value != "defaults" and not commented(key.start_mark.line, value.end_mark.line, text):
            yield key.value


def commented(first: int, last: int, text: list[str]) -> bool:
    """On the line above, or on a line of the value."""
    above = text[first - 1].lstrip() if first else ""
    explains = above.startswith("#") and not above.startswith("# @package")
    return explains or any(" #" in line for line in text[first : last + 1])


def test_yaml_and_options_have_the_same_keys():
    registry = discover()
    built_in = [offer for offer in registry.offers if offer.distribution == "hooktune"]
    assert len(built_in) >= 10
    for offer in built_in:
        found = values(ROOT / "conf" / offer.axis / f"{offer.part.name}.yaml")
        assert found["name"] == offer.part.name
        assert set(found) == {field.name for field in fields(registry.options_class(offer))}, offer.part.name


def values(path: Path) -> dict[str, object]:
    """A part's own yaml over the ones its defaults list names."""
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    shared = [name for name in own.pop("defaults", []) if name != "_self_"]
    return {key: value for name in shared for key, value in values(path.with_name(f"{name}.yaml")).items()} | own


def test_every_yaml_of_an_axis_has_a_part():
    registry = discover()
    for axis in AXES:
        files = {path.stem for path in (ROOT / "conf" / axis).glob("*.yaml")}
        assert files - WITHOUT_A_PART <= set(registry.names(axis)), axis


def test_the_lock_is_within_the_ranges():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    wanted = [*project["project"]["dependencies"], *chain(*extras), *project["build-system"]["requires"]]
    entries = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(name): version for name, _, version in (e.partition("==") for e in entries) if version}
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
    assert "triton" not in pinned, "trl and unsloth would train with it, which needs a GPU"


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("core/layout.py", "import plugins.lora", "core imports nothing of plugins"),
        ("plugins/lora/method.py", "from core.errors import UserError", "a plugin imports core.api only"),
        ("plugins/lora/method.py", "import plugins.full.options", "no plugin imports another"),
    ],
)
def test_import_contracts_notice(file: str, line: str, contract: str, tmp_path: Path):
    for name in ("core", "plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    broken = [row for row in done.stdout.splitlines() if " BROKEN" in row]
    assert [row.partition(" BROKEN")[0] for row in broken] == [contract], done.stdout + done.stderr
