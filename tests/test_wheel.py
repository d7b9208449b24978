"""What users install is the wheel, so the wheel is what is tested."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import core

ROOT = Path(__file__).resolve().parent.parent

Environment = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(wheel: Path, environment: Callable[[Path], Environment]) -> Environment:
    return environment(wheel)


def test_wheel_holds_code_and_values(wheel: Path):
    found = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("core", "plugins", "conf"):
        files = [path for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".yaml"}]
        assert files
        assert {path.relative_to(ROOT).as_posix() for path in files} <= found
    assert not any(name.startswith(("tests/", "docs/")) for name in found)


def test_help_and_config_from_an_empty_folder(installed: Environment, tmp_path: Path):
    done = installed("-c", "import core; print(core.__file__)", cwd=tmp_path)
    assert not done.stdout.startswith(str(ROOT)), "the checkout is in the way"
    done = installed("-m", "core", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lora" in done.stdout
    done = installed("-m", "core", "+method=lora", "+quant=int4", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "name: lora" in done.stdout
    assert "name: int4" in done.stdout
    assert list(tmp_path.iterdir()) == [], "asking leaves nothing behind"


def test_console_script(installed: Environment, tmp_path: Path):
    done = installed("hooktune", "--version", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert core.__version__ in done.stdout
