"""The questions the core asks: few, each with an example that runs, and the only ones a plugin can answer."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core import api, hookspecs
from core.loading import CONTRACTS
from core.registry import AXES

REPOSITORY = Path(__file__).resolve().parents[2]
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, "hooktune_spec")}


def test_there_are_few_and_each_has_an_axis():
    assert 0 < len(HOOKS) <= 10
    assert sorted(HOOKS) == sorted(AXES.values())
    assert list(AXES) == list(CONTRACTS)


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_takes_nothing_and_leaves_every_answer_standing(name):
    assert not inspect.signature(HOOKS[name]).parameters
    assert not HOOKS[name].hooktune_spec["firstresult"]
    assert list(HOOKS[name]()) == []


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_an_example_that_runs_and_uses_what_plugins_may_import(name):
    (example,) = doctest.DocTestFinder(recurse=False).find(HOOKS[name], name, globs={})
    source = "".join(part.source for part in example.examples)
    assert f"def {name}():" in source
    assert set(re.findall(r"from (core\S*) import", source)) == {"core.api"}
    printed: list[str] = []
    outcome = doctest.DocTestRunner(verbose=False).run(example, out=printed.append)
    assert outcome.attempted >= 3
    assert outcome.failed == 0, "".join(printed)


@pytest.mark.parametrize(("axis", "name"), AXES.items())
def test_a_hook_names_its_axis_and_the_contract_of_its_parts(axis, name):
    doc = inspect.getdoc(HOOKS[name]) or ""
    assert f"``+{axis}=NAME``" in doc
    (contract, *_) = re.findall(r"subclass of ``core\.api\.(\w+)``", doc)
    assert getattr(api, contract) is CONTRACTS[axis]


def test_what_plugins_import_brings_no_torch():
    script = "import sys, core.api\nprint(sorted({'torch', 'transformers', 'peft', 'lightning'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout == "[]\n", done.stderr
