"""``plugins check`` and ``plugins show`` on parts that cannot be made: two lines, not one failure a check."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_of_projects import on_path

from core.plugin_new import new_plugin


@pytest.fixture
def typed(tmp_path):
    """``typed(project, "check", "faulty")`` is ``plugins check faulty`` where the project is installed."""

    def run(project: Path, *words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "core", "plugins", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=on_path(project), capture_output=True, text=True, timeout=300, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return run


def change(project: Path, file: str, old: str, new: str) -> None:
    path = project / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "exits": (
        "method",
        lambda p: change(p, "hooktune_faulty/__init__.py", "@hookimpl", "raise SystemExit(3)"),
        "method=faulty cannot be offered: hooktune-faulty is broken: it calls sys.exit(3)",
    ),
    "misspelt hook": (
        "method",
        lambda p: change(p, "hooktune_faulty/__init__.py", "hooktune_methods", "hooktune_method"),
        "there is no hook hooktune_method (did you mean hooktune_methods?)",
    ),
    "no target": (
        "method",
        lambda p: (p / "hooktune_faulty" / "method.py").unlink(),
        "target hooktune_faulty.method:Faulty cannot be imported",
    ),
    "no key": (
        "method",
        lambda p: change(p, "hooktune_faulty/conf/method/faulty.yaml", "words:", "# words:"),
        "fix: method.words=VALUE, or put it into the yaml of faulty",
    ),
    "open value": (
        "data",
        lambda p: change(p, "hooktune_faulty/conf/data/faulty.yaml", "largest: 20 ", "largest: ???"),
        "fix: plugins check faulty data.largest=VALUE",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_part_that_cannot_be_made_is_said_once(tmp_path, typed, fault):
    kind, spoil, said = FAULTS[fault]
    project = new_plugin(kind, "faulty", tmp_path)
    spoil(project)
    code, out, err = typed(project, "check", "faulty")
    assert code in (1, 2)
    assert said in out + err
    assert len((out + err).strip().splitlines()) <= 3, out + err


def test_show_says_that_a_part_is_broken(tmp_path, typed):
    project = new_plugin("method", "faulty", tmp_path)
    FAULTS["exits"][1](project)
    code, out, err = typed(project, "show", "faulty")
    assert (code, out) == (2, "")
    assert err.startswith("error: method=faulty cannot be offered: hooktune-faulty is broken: it calls sys.exit(3)\n")


def test_the_report_begins_with_its_lines(tmp_path, typed):
    project = new_plugin("data", "faulty", tmp_path)
    change(project, "hooktune_faulty/source.py", "return [", "return 3 and [3 for _ in [")
    change(project, "hooktune_faulty/source.py", "in chosen]", "in chosen]]")
    code, out, err = typed(project, "check", "faulty")
    lines = out.strip().splitlines()
    assert code == 1
    assert lines[0] == "DataFaulty"
    assert "[100%]" not in out
    assert "Writing model shards" not in out + err
    assert "is not an object" in out, "what is wrong is said in two lines behind them"
    assert "core/rows.py" not in out, "an error that says what is wrong needs no traceback"


@pytest.mark.parametrize(
    ("kind", "file", "old", "new", "check", "said"),
    [
        (
            "objective", "objective.py", "Loss(total,", "Loss(total / found.loss_weights_N.sum(),", "accumulation",
            "Loss.total must be the sum over the items, not their mean",
        ),
        (
            "objective", "options.py", 'within("objective.gamma", self.gamma, 0, 10)', "pass", "wrong_value",
            "a limit in __post_init__, or free: ClassVar = frozenset({'gamma'}) where any value is right",
        ),
    ],
)  # fmt: skip
def test_a_check_that_fails_says_the_cure(tmp_path, kind, file, old, new, check, said):
    project = new_plugin(kind, "faulty", tmp_path)
    change(project, f"hooktune_faulty/{file}", old, new)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", check, str(project)]
    done = subprocess.run(
        command, cwd=tmp_path, env=on_path(project), capture_output=True, text=True, timeout=300, check=False
    )
    assert said in done.stdout, done.stdout[-3000:]


def test_a_key_that_only_the_yaml_has_is_said_to_be_there(tmp_path, typed):
    project = new_plugin("method", "faulty", tmp_path)
    change(project, "hooktune_faulty/conf/method/faulty.yaml", "words:", "extra: 1 # not in the class\nwords:")
    code, out, _ = typed(project, "check", "faulty")
    assert code == 1
    assert "error: the yaml of method=faulty has extra, its options class has not\n" in out
