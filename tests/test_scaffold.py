"""``plugins new``: for every kind a project that builds, is found, and keeps its contract before a line is changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests_of_projects import on_path

from core.errors import UserError
from core.plugin_list import KINDS
from core.plugin_new import new_plugin

FORMS = [*((kind, False) for kind in KINDS.values()), ("method", True)]


@pytest.mark.slow
def test_every_scaffold_passes_the_kit_unchanged(tmp_path):
    """All in one process of pytest, as someone would have it who keeps several."""
    projects = [new_plugin(kind, f"my-{kind}{'-peft' * peft}", tmp_path, peft) for kind, peft in FORMS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5", "-rs"]
    command += [str(project / "tests") for project in projects]
    done = subprocess.run(command, cwd=tmp_path, env=on_path(*projects), capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-6000:]


def test_a_quantizer_with_layers_of_its_own_is_trained_on(tmp_path, tiny_model, rows_jsonl):
    """It provides ``linear-base`` and nothing else."""
    project = new_plugin("quantizer", "own", tmp_path)
    package = project / "hooktune_own"
    for file, before, after in (
        ("__init__.py", '{"dense-base", "trainable-base"}', '{"linear-base"}'),
        ("quantizer.py", "class Own", "class Levels(nn.Linear):\n    pass\n\n\nclass Own"),
        ("quantizer.py", "layer.levels", "layer.__class__ = Levels\n                layer.levels"),
    ):
        text = (package / file).read_text()
        assert before in text
        (package / file).write_text(text.replace(before, after))
    usual = [f"model.path={tiny_model}", "trainer.max_steps=2", "trainer.accelerator=cpu", "metric=none"]
    usual += ["-m", "method=lora,adapters", "quant=own", "data=jsonl", f"data.train={rows_jsonl}"]
    command = [sys.executable, "-m", "core", *usual]
    done = subprocess.run(command, cwd=tmp_path, env=on_path(project), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_objective_runs_on_the_default_rows_as_its_readme_says(tmp_path, tiny_model):
    project = new_plugin("objective", "focal", tmp_path)
    line = "python -m core objective=focal"
    assert f"    {line}\n" in (project / "README.md").read_text()
    few = [f"model.path={tiny_model}", "data.train_rows=16", "data.validation_rows=4", "trainer.max_steps=1"]
    command = [sys.executable, *line.split()[1:], *few, "trainer.accelerator=cpu", "metric=none"]
    done = subprocess.run(command, cwd=tmp_path, env=on_path(project), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "format messages" in done.stdout


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("methd", "a"), "there is no kind methd"),
        (("method", "My Method"), "'My Method' is no name of a part: it holds ' ', 'M'"),
        (("method", "9bad"), "it must begin with a letter"),
        (("method", "a--b"), "each - or _ must stand alone"),
        (("method", "lora"), "method=lora is there already"),
    ],
)
def test_what_cannot_be_made_is_said(tmp_path, typed, said):
    with pytest.raises(UserError, match=said):
        new_plugin(*typed, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    new_plugin("method", "bitfit", tmp_path)
    with pytest.raises(UserError, match="is there"):
        new_plugin("method", "bitfit", tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        new_plugin("method", "bitfit", tmp_path / "nowhere")
    with pytest.raises(UserError, match="--peft makes a method"):
        new_plugin("metric", "bleu", tmp_path, peft=True)


@pytest.mark.slow
def test_from_nothing_to_an_installed_plugin(environment, wheel, tmp_path, tiny_model, rows_jsonl):
    """What the docs promise: new, pip install, train two steps, check; in a fresh environment, for four kinds."""
    hooktune = environment(wheel)
    kinds = {"method": "bitfit", "quantizer": "coarse", "objective": "focal", "data": "adding"}
    axes = {"method": "method", "quantizer": "quant", "objective": "objective", "data": "data"}
    for kind, name in kinds.items():
        made = hooktune("hooktune", "plugins", "new", kind, name, cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        hooktune.install(tmp_path / f"hooktune-{name}")
        listed = hooktune("hooktune", "plugins", "list", cwd=tmp_path)
        assert f"hooktune-{name} 0.1.0" in listed.stdout, listed.stdout + listed.stderr
        usual = [f"model.path={tiny_model}", "trainer.max_steps=2", "trainer.accelerator=cpu", "metric=none"]
        rows = [] if kind == "data" else ["data=jsonl", f"data.train={rows_jsonl}"]
        done = hooktune("-m", "core", f"+{axes[kind]}={name}", *usual, *rows, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 steps" in done.stdout
        checked = hooktune("hooktune", "plugins", "check", name, cwd=tmp_path)
        assert checked.returncode == 0, checked.stdout[-4000:]
        assert "FAILED" not in checked.stdout


def test_the_lines_a_method_needs_are_those_that_the_docs_state(tmp_path):
    """All files of the short form: what is written by hand before a method of peft is installed."""
    project = new_plugin("method", "short", tmp_path, peft=True)
    files = [path for path in project.rglob("*") if path.is_file()]
    number = sum(bool(line.strip()) for path in files for line in path.read_text().splitlines())
    stated = (Path(__file__).parent.parent / "docs" / "write-a-plugin.md").read_text()
    assert f"{number} lines in its {len(files)} files" in stated


def test_its_pages_read_well_and_promise_nothing_that_is_not_published(tmp_path):
    for kind, name in (("data", "adding"), ("quantizer", "coarse")):
        project = new_plugin(kind, name, tmp_path)
        assert "    pip install -e ." in (project / "README.md").read_text()
        assert f"pip install hooktune-{name}" not in (project / "README.md").read_text()
    assert 'description = "A plugin for hooktune that offers quant=coarse"' in (project / "pyproject.toml").read_text()
