"""``plugins new``: for every kind a project that builds, is found, and keeps its contract before a line is changed."""

from __future__ import annotations

import subprocess
import sys

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


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("methd", "a"), "there is no kind methd"),
        (("method", "My Method"), "is no name of a part"),
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
