"""docs/example-plugin, a stranger's whole distribution: built, installed beside ours, trained, stopped and resumed."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
import yaml
from safetensors.torch import load_file

import core
from core.discovery import discover
from core.errors import Interrupted, UserError
from core.resume import resume
from core.stop import StopOnSignal

EXAMPLE = Path(__file__).resolve().parent.parent / "docs" / "example-plugin"
PACKAGE = EXAMPLE / "src" / "acme_hooktune_galore"

Environment = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def example(build: Callable[[Path], Path]) -> Path:
    return build(EXAMPLE)


@pytest.fixture(scope="module")
def installed(wheel: Path, example: Path, environment: Callable[..., Environment]) -> Environment:
    """A fresh environment with the wheels of hooktune and of the example."""
    return environment(wheel, example)


def test_it_is_listed_without_torch_and_trains(
    installed: Environment, tiny_model: Path, rows_jsonl: Path, tmp_path: Path
):
    listed = installed("-m", "core", "--help", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "galore" in listed.stdout
    assert "acme-hooktune-galore" in listed.stdout
    asked = "from core.discovery import discover; r = discover(); r.options_class(r.find('method', 'galore'))"
    done = installed("-c", f"{asked}; import sys; print('torch' in sys.modules)", cwd=tmp_path)
    assert done.stdout == "False\n", done.stdout + done.stderr

    train = ["+method=galore", "data=jsonl", f"data.train={rows_jsonl}", f"model.path={tiny_model}", "metric=none"]
    train += ["trainer.max_steps=2", "data.batch_size=4", "optim.lr=0.01", "run.dir=done"]
    done = installed("-m", "core", *train, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "done" / "status.json").read_text())["state"] == "done"
    lock = json.loads((tmp_path / "done" / "lock.json").read_text())
    part = next(part for part in lock["parts"] if part["kind"] == "method")
    assert (part["name"], part["distribution"]) == ("galore", "acme-hooktune-galore")
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_model, tmp_path / "done" / "model"))
    assert [name for name in before if torch.equal(before[name], after[name])] == [], "every weight is trained"


@pytest.mark.slow
def test_its_own_tests_pass_where_it_is_installed(installed: Environment, tmp_path: Path):
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    done = installed("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_it_imports_the_api_only():
    for source in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert {name for name in names if name.partition(".")[0] in ("core", "plugins")} <= {"core.api"}, source


# -------------------------------------------------------------------------------------------- within this very process
@pytest.fixture
def run(monkeypatch, tmp_path, example, tiny_model, rows_jsonl) -> Iterator[Callable]:
    """``run("trainer.max_steps=3")`` trains the tiny model with galore, as if its wheel were installed here."""
    zipfile.ZipFile(example).extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)

    def train(*overrides: str):
        usual = [
            "method=galore", "method.update_every=2", f"model.path={tiny_model}", "model.dtype=float32", "data=jsonl",
            f"data.train={rows_jsonl}", "data.batch_size=8", "trainer.accelerator=cpu", "optim.lr=1e-2", "metric=none",
        ]  # fmt: skip
        given = {line.partition("=")[0]: line for line in [*usual, *overrides]}  # the last one counts
        return core.train(core.configure(list(given.values())))

    yield train
    for name in [name for name in sys.modules if name.startswith("acme_hooktune_galore")]:
        del sys.modules[name]


def losses(result) -> list[float]:
    return [line["loss"] for line in result.metrics if line["split"] == "train"]


@pytest.mark.parametrize("step", [3, 4], ids=["within a subspace", "before a change"])
def test_a_run_that_was_stopped_goes_on_exactly(run, monkeypatch, tmp_path, step):
    whole = run("trainer.max_steps=6", "optim.weight_decay=0.1", "run.dir=whole")
    start = StopOnSignal.on_train_batch_start

    def signalled(self, trainer, *given):
        if trainer.global_step == step - 1 and self.received is None:
            os.kill(os.getpid(), signal.SIGINT)
        start(self, trainer, *given)

    with monkeypatch.context() as patch:
        patch.setattr(StopOnSignal, "on_train_batch_start", signalled)
        with pytest.raises(Interrupted):
            run("trainer.max_steps=6", "optim.weight_decay=0.1", "run.dir=stopped")
    assert len((tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()) == step
    resumed = resume(tmp_path / "stopped")
    assert losses(resumed) == losses(whole)
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns_with_whichever_optimizer_the_run_has(run, monkeypatch):
    result = run("trainer.max_steps=30", "data.holdout=0", "optim.lr=3e-3")
    assert losses(result)[-1] < 0.5 * losses(result)[0]
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "data" / "tinyparts"))
    result = run("trainer.max_steps=30", "data.holdout=0", "optim=plain", "optim.momentum=0.9", "optim.lr=0.1")
    assert losses(result)[-1] < losses(result)[0]


def test_a_quantized_base_is_refused(run):
    with pytest.raises(UserError, match=r"method=galore cannot run with quant=int4: it requires trainable-base"):
        run("quant=int4")


def test_yaml_and_options_have_the_same_keys(run):
    registry = discover()
    values = yaml.safe_load((PACKAGE / "conf" / "method" / "galore.yaml").read_text(encoding="utf-8"))
    known = {field.name for field in fields(registry.options_class(registry.find("method", "galore")))}
    assert set(values) == known
    assert values["name"] == "galore"
