"""Every broken file gives its error or its report: none a traceback, none silence."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

import broken_files
import pytest
import yaml
from rich.console import Console

import core
from core import stages
from core.errors import UserError
from core.plan import make_plan

BROKEN = Path(__file__).parents[1] / "data" / "broken"
CASES = yaml.safe_load((BROKEN / "cases.yaml").read_text(encoding="utf-8"))
USUAL = (
    "model.dtype=float32",
    "method=lora",
    "data=jsonl",
    "metric=none",
    "data.cache=false",
    "trainer.accelerator=cpu",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """All of them in one folder."""
    folder = shutil.copytree(BROKEN, tmp_path_factory.mktemp("broken") / "files")
    broken_files.write(folder)
    return folder


@pytest.fixture
def read(files, tiny_model, monkeypatch):
    """``read("data.train=FILE")`` is the exit code and what is said about the rows before anything is trained."""
    monkeypatch.chdir(files)

    def run(*typed: str) -> tuple[int, str]:
        screen = Console(file=io.StringIO(), highlight=False, width=120)
        try:
            plan = make_plan(core.configure([f"model.path={tiny_model}", *USUAL, *typed]))
            stages.describe(screen, plan, stages.read(plan))
        except UserError as error:
            return 2, str(error)
        said = screen.file.getvalue()
        return 0, said[said.index("  rows ") :]

    return run


def overrides(case) -> list[str]:
    return [f"data.train={case['file']}", *case.get("typed", "").split()]


def agrees(said: str, wanted: str) -> bool:
    """Whether ``wanted`` is all that is said; a line of it may end in ``...``, for words of a library."""
    lines, expected = said.rstrip("\n").split("\n"), wanted.rstrip("\n").split("\n")
    return len(lines) == len(expected) and all(
        line == other or (other.endswith("...") and line.startswith(other[:-3]))
        for line, other in zip(lines, expected, strict=True)
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(overrides(case)).removeprefix("data.train="))
def test_a_broken_file_gives_its_error_or_its_report(read, case):
    code, said = read(*overrides(case))
    assert code == case["code"], said
    assert agrees(said, case["says"]), said


def test_every_broken_file_is_tried():
    tried = {case["file"] for case in CASES} | {"cases.yaml", "held-out.jsonl"}
    there = {path.name for path in BROKEN.iterdir()} | {name.partition("/")[0] for name in broken_files.FILES}
    assert there <= tried
    assert len(there) > 100


def test_what_is_said_names_the_file_or_the_option_that_is_wrong():
    def named(case) -> bool:
        return any(option.partition("=")[2] in case["says"] for option in overrides(case))

    assert [case["file"] for case in CASES if case["code"] and not named(case)] == [
        "labels-of-one-kind.jsonl"  # the set as a whole: no row of it is wrong
    ]


@pytest.mark.parametrize("fed", [b"", b"\n \n"])
def test_nothing_on_standard_input_is_said(read, monkeypatch, fed):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(fed)))
    assert read("data.train=-") == (2, "error: data.train=- holds no row\n  fix: data.train=FILE with rows in it")


def test_what_is_wrong_on_standard_input_has_its_line(read, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"prompt": "a", "completion": "b"}\n{oops\n')))
    assert read("data.train=-")[1].startswith("error: stdin:2: not JSON: Expecting property name")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"prompt": "\xe9"}\n')))
    assert read("data.train=-") == (
        2,
        "error: stdin:1: is not UTF-8\n  fix: iconv -f WINDOWS-1252 -t UTF-8, before it is piped or packed",
    )


@pytest.fixture
def nobody():
    """A folder of a user who may not read all of it; root may read everything and becomes somebody else."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    (folder / "closed.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (folder / "closed").mkdir()
    (folder / "closed" / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    for name in ("closed.jsonl", "closed"):
        (folder / name).chmod(0)
    folder.chmod(0o755)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(was)
    (folder / "closed").chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["closed.jsonl", "closed", "closed/rows.jsonl"])
def test_a_file_that_may_not_be_read_is_named(nobody, name):
    from plugins.jsonl.readers import read as rows_of
    from plugins.jsonl.source import _checked

    with pytest.raises(UserError) as caught:
        [row for file in _checked(str(nobody / name), "train") for row in rows_of(file)]
    assert f"{nobody / name} cannot be read: Permission denied" in caught.value.what


@pytest.mark.parametrize("file", ["latin1.jsonl", "cut-short.parquet", "nested-nulls.jsonl", "lone-surrogate.jsonl"])
def test_the_command_line_says_the_same_and_starts_nothing(cli, files, tiny_model, file, tmp_path):
    case = next(case for case in CASES if case["file"] == file)
    done = cli(f"model.path={tiny_model}", *USUAL, *overrides(case), f"run.dir={tmp_path / 'out'}", cwd=files)
    assert done.returncode == 2
    assert agrees(done.stderr, case["says"]), done.stderr
    assert not (tmp_path / "out").exists()


def test_the_command_line_reports_what_it_skips_and_trains_on_the_rest(cli, files, tiny_model, tmp_path):
    typed = ["data.train=mixed-formats.jsonl", "data.on_bad_row=skip", "trainer.max_steps=1"]
    case = next(case for case in CASES if overrides(case) == typed[:2])
    done = cli(f"model.path={tiny_model}", *USUAL, *typed, f"run.dir={tmp_path / 'out'}", cwd=files)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert case["says"].rstrip("\n") in done.stdout
    assert (tmp_path / "out" / "adapter").is_dir()
