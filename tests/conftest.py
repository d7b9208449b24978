"""What many tests need: a model small enough to train in a second, rows to train it on, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# nothing is ever fetched: without these a wrong path is asked of the hub first, with retries; the libraries look once,
# when they are imported, which nothing above does
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", UNSLOTH_AUTO_INSTALL="0")

DATASETS_CACHE = tempfile.TemporaryDirectory()
os.environ["HF_DATASETS_CACHE"] = DATASETS_CACHE.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The kit's checks on SmolLM2 are among those that ``make test-slow`` runs."""
    for item in items:
        if "real_weights" in item.name:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests never read or fill the user's cache, unless HOOKTUNE_CACHE says where."""
    os.environ.setdefault("HOOKTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def rows_jsonl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 64 rows with ``prompt`` and ``completion``."""
    from core.testing import tiny

    return tiny.write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", tiny.sums())


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama (hidden 64, 2 blocks, 4 heads, 2 of them for keys) and a ChatML tokenizer."""
    from core.testing import tiny

    return tiny.write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def reference_asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs DPO's reference was asked about each time; the forecast, which has no weights, left out."""
    from torch._subclasses.fake_tensor import FakeTensor

    from plugins.preference.dpo import DPO

    asked: list[int] = []
    of_batch = DPO.reference

    def counted(self: DPO, logprobs: Any) -> Any:
        found = of_batch(self, logprobs)
        if not isinstance(found["reference_chosen"], FakeTensor):
            asked.append(len(found["reference_chosen"]))
        return found

    monkeypatch.setattr(DPO, "reference", counted)
    return asked


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``cli("--help")`` is ``python -m core --help`` in an empty folder, with its output as text."""

    def run(*arguments: str, cwd: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "core", *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "120", **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """``build(folder)`` is the wheel of the project in ``folder``; nothing is fetched for it."""

    def run(project: Path) -> Path:
        target = tmp_path_factory.mktemp("wheel")
        options = ["--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(target)]
        subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(project)], check=True, timeout=300)
        (wheel,) = target.glob("*.whl")
        return wheel

    return run


@pytest.fixture(scope="session")
def wheel(build: Callable[[Path], Path]) -> Path:
    """hooktune's wheel, as users get it."""
    return build(REPOSITORY)


@pytest.fixture(scope="session")
def environment(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Callable[..., subprocess.CompletedProcess[str]]]:
    """``environment(*wheels)`` is a fresh virtual environment: a function that runs its python or a script of its own.

    It borrows what is installed here through a path file. Files of that kind are not followed a second time, so an
    editable install of this checkout stays out of sight. ``install`` of that function installs more into it, and
    ``pip`` takes the words of a command; nothing is fetched.
    """

    def make(*wheels: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
        folder = tmp_path_factory.mktemp("venv")
        venv.create(folder, with_pip=False)
        scripts = Path(sysconfig.get_path("scripts", "venv", {"base": str(folder)}))
        own = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))

        def pip(*words: str, cwd: Path | None = None) -> None:
            command = [sys.executable, "-m", "pip", "--python", str(scripts / "python"), *words]
            subprocess.run(command, cwd=cwd, env=os.environ | {"PIP_NO_INDEX": "1"}, check=True, timeout=300)

        def install(*what: Path) -> None:
            pip("install", "--no-deps", "--no-build-isolation", "-q", *map(str, what))

        install(*wheels)
        (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")

        def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
            script = scripts / arguments[0]
            command = [script, *arguments[1:]] if script.exists() else [scripts / "python", *arguments]
            variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"COLUMNS": "120"}
            return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=300)

        run.install, run.pip = install, pip
        return run

    return make
