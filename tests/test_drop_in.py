"""Strangers come through the same door: a folder dropped into plugins/, and a package with an entry point."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
ACME = ROOT / "tests" / "data" / "acme-scale"
UNLUCKY = ROOT / "tests" / "data" / "unlucky"

Environment = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def dropped(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A copy of this tree with acme's method as a folder of its own."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("core", "plugins", "conf"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ACME / "acme_scale", tree / "plugins" / "scale", ignore=shutil.ignore_patterns("__pycache__"))
    for source in (tree / "plugins" / "scale").glob("*.py"):
        source.write_text(source.read_text().replace("acme_scale", "plugins.scale"))

    def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "120"}
        return subprocess.run(
            [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
        )

    return run


@pytest.fixture(scope="module")
def installed(wheel: Path, build: Callable[[Path], Path], environment: Callable[..., Environment]) -> Environment:
    """A fresh environment with the wheels of hooktune and acme."""
    return environment(wheel, build(ACME))


@pytest.mark.parametrize(("way", "plugin"), [("dropped", "scale"), ("installed", "acme-scale")])
def test_a_stranger_is_listed_and_trains(
    way: str, plugin: str, request: pytest.FixtureRequest, tiny_model: Path, rows_jsonl: Path, tmp_path: Path
):
    run: Environment = request.getfixturevalue(way)
    listed = run("-m", "core", "--help", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "one learned factor per output of each chosen linear layer" in " ".join(listed.stdout.split())
    assert plugin in listed.stdout

    train = ["-m", "core", "+method=scale", "data=jsonl", f"data.train={rows_jsonl}", "metric=none"]
    train += ["trainer.max_steps=2", "data.batch_size=4", "optim.lr=0.01"]
    first = tmp_path / "first"
    done = run(*train, f"model.path={tiny_model}", f"run.dir={first}", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((first / "status.json").read_text())["state"] == "done"
    part = next(part for part in json.loads((first / "lock.json").read_text())["parts"] if part["kind"] == "method")
    assert part["name"] == "scale"
    assert plugin in (part["plugin"], part["distribution"])
    scales = load_file(first / "adapter" / "scales.safetensors")
    assert len(scales) == 4, "keys and values of two blocks"
    assert all((scale != 1).any() for scale in scales.values())

    second = tmp_path / "second"
    done = run(*train, f"model.path={first}", f"run.dir={second}", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    further = load_file(second / "adapter" / "scales.safetensors")
    assert all((further[name] - 1).abs().max() > (scale - 1).abs().max() for name, scale in scales.items())


def test_a_sweep_of_twelve_with_two_that_cannot_work_and_one_that_fails(
    dropped: Environment, tmp_path: Path, tiny_model: Path, rows_jsonl: Path
):
    tree = Path(dropped("-c", "import core; print(core.__path__[0])", cwd=tmp_path).stdout.strip()).parent
    shutil.copytree(UNLUCKY, tree, dirs_exist_ok=True)
    typed = [
        "-m",
        "method=lora,adapters,full,unlucky",
        "quant=none,int8,int4",
        f"model.path={tiny_model}",
        "data=jsonl",
    ]
    typed += [f"data.train={rows_jsonl}", "metric=none", "trainer.max_steps=2", "trainer.accelerator=cpu"]
    done = dropped("-m", "core", *typed, "run.dir=twelve", cwd=tmp_path)
    assert done.returncode == 1
    assert "12 jobs, of which 2 cannot work: 7, 8" in done.stderr + done.stdout
    assert "Traceback" not in done.stdout
    assert _states(tmp_path / "twelve") == ["done"] * 7 + ["refused"] * 2 + ["done", "failed", "done"]

    method = tree / "plugins" / "unlucky" / "method.py"
    method.write_text(method.read_text().replace("Linear8bitLt", "nothing"))
    done = dropped("-m", "core", "sweep", "resume", "twelve", cwd=tmp_path)
    assert done.returncode == 1  # two were refused, and stay so
    assert _states(tmp_path / "twelve") == ["done"] * 7 + ["refused"] * 2 + ["done"] * 3


def _states(sweep: Path) -> list[str]:
    with (sweep / "table.csv").open(newline="") as file:
        return [row["state"] for row in csv.DictReader(file)]
