"""Unsloth trains in a process of its own, on CPUs too, and what it leaves is a plain adapter."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import core
from core.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]

needs_unsloth = pytest.mark.skipif(importlib.util.find_spec("unsloth") is None, reason="unsloth, an extra, is not here")

PLAIN_PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
model = PeftModel.from_pretrained(base, sys.argv[2]).eval()
assert not {"core", "unsloth"} & set(sys.modules)
torch.save(model(torch.arange(5, 25)[None]).logits, sys.argv[3])
"""

OURS = """
import sys, torch, core
result = core.load_run(sys.argv[1])
with torch.no_grad():
    torch.save(result.model(torch.arange(5, 25)[None]).logits, sys.argv[2])
"""

THROUGH_UNSLOTH = """
import json, sys, core
from core.compose import configure
from plugins.unsloth_loader.first import unsloth

fast, calls = unsloth.FastLanguageModel, []
theirs = fast.get_peft_model
fast.get_peft_model = staticmethod(lambda model, **asked: calls.append(asked) or theirs(model, **asked))
core.train(configure(sys.argv[1:]))
print(json.dumps([[asked["r"], asked["lora_alpha"], asked["target_modules"]] for asked in calls]))
"""

EARLY = "import pathlib, sys\npathlib.Path('late').write_text(str({'transformers', 'peft', 'trl'} & {*sys.modules}))\n"
IN_PYTHON = "import sys, core\ncore.train(core.configure(sys.argv[1:]))"
A_RUN = "import sys, core\ncore.load_run(sys.argv[1]).model"

STUB = "import os, pathlib\npathlib.Path('seen').write_text(os.environ['UNSLOTH_AUTO_INSTALL'])\n"


@pytest.fixture
def train(cli, tiny_model, rows_jsonl):
    """Run the tiny model on the command line, twelve steps."""

    def run(loader: str, *more: str):
        return cli(*usual(tiny_model, rows_jsonl, f"loader={loader}"), *more)

    return run


def usual(model, rows, *more: str) -> list[str]:
    return [
        "method=lora", f"model.path={model}", "data=jsonl", f"data.train={rows}", "data.batch_size=8",
        "trainer.max_steps=12", "trainer.accelerator=cpu", "optim.lr=1e-2", "metric=none", *more,
    ]  # fmt: skip


def losses(folder) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["split"] == "train"]


@needs_unsloth
def test_it_trains_as_transformers_does_and_its_adapter_is_a_plain_one(train, tmp_path, tiny_model):
    done = train("unsloth", "model.dtype=float32", "run.dir=theirs")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "its banner and its warnings are not the user's business"
    assert "Unsloth" not in done.stdout
    assert train("transformers", "model.dtype=float32", "run.dir=plain").returncode == 0
    theirs, plain = losses(tmp_path / "theirs"), losses(tmp_path / "plain")
    assert theirs[0] == pytest.approx(plain[0], abs=1e-5), "the adapter starts at zero, so the first step is the same"
    assert theirs[-1] == pytest.approx(plain[-1], abs=0.1), "its own random start, the same task"
    assert theirs[-1] < 0.97 * theirs[0]

    script = [sys.executable, "-c"]
    subprocess.run([*script, PLAIN_PEFT, tiny_model, "theirs/adapter", "1.pt"], check=True, cwd=tmp_path, timeout=300)
    subprocess.run([*script, OURS, "theirs", "2.pt"], check=True, cwd=tmp_path, timeout=300)
    import torch

    assert (torch.load(tmp_path / "1.pt") - torch.load(tmp_path / "2.pt")).abs().max() < 1e-5


@needs_unsloth
def test_lora_goes_in_by_its_own_get_peft_model(tmp_path, tiny_model, rows_jsonl):
    given = usual(tiny_model, rows_jsonl, "loader=unsloth", "method.rank=4", "method.alpha=12")
    command = [sys.executable, "-c", THROUGH_UNSLOTH, *given]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    linears = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert json.loads(done.stdout.splitlines()[-1]) == [[4, 12, linears]]


@pytest.mark.parametrize("before", [{}, {"UNSLOTH_AUTO_INSTALL": "1"}])
def test_its_installer_is_off_when_it_is_imported(tmp_path, before):
    """Whatever the environment says; a package of that name looks, in place of Unsloth."""
    (tmp_path / "unsloth.py").write_text(STUB)
    environment = {name: value for name, value in os.environ.items() if name != "UNSLOTH_AUTO_INSTALL"}
    environment |= {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)]), **before}
    script = "import plugins.unsloth_loader.first"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=environment, timeout=60)
    assert (tmp_path / "seen").read_text() == "0"


@pytest.fixture
def stubbed(tmp_path, tiny_model, rows_jsonl):
    """Do something with ``loader=unsloth``, where a package of that name notes what was imported before."""
    for name in ("unsloth", "unsloth_zoo"):
        (tmp_path / f"{name}.py").write_text(EARLY if name == "unsloth" else "")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])}

    def run(*typed: str):
        command = [sys.executable, *typed]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return run


@pytest.mark.parametrize("way", [["-m", "core"], ["-c", IN_PYTHON], ["-m", "core", "data", "show"]])
def test_it_is_imported_before_what_it_patches(stubbed, tmp_path, way):
    done = stubbed(*way, "loader=unsloth", "model.path=./nowhere")
    assert "error: model.path=./nowhere" in done.stderr.replace("core.errors.UserError", "error")
    assert (tmp_path / "late").read_text() == "set()"


@pytest.mark.parametrize("way", [["-m", "core", "generate"], ["-c", A_RUN]])
def test_it_is_imported_before_what_it_patches_to_use_a_run(train, stubbed, tmp_path, way):
    assert train("transformers", "trainer.max_steps=1", "run.dir=made").returncode == 0
    file = tmp_path / "made" / "overrides.txt"
    file.write_text(file.read_text().replace("loader=transformers", "loader=unsloth"))
    done = stubbed(*way, "made", "How are you?")
    assert "has no attribute 'FastLanguageModel'" in done.stderr
    assert (tmp_path / "late").read_text() == "set()"


def test_where_it_is_too_late_it_says_what_to_type(stubbed):
    done = stubbed("-c", f"import transformers\n{IN_PYTHON}", "loader=unsloth")
    assert "loader=unsloth of hooktune (plugins/unsloth_loader) patches libraries, and transformers is imported" in (
        done.stderr
    )
    assert "import plugins.unsloth_loader.first in the first line of the program" in done.stderr


@needs_unsloth
def test_it_trains_in_four_bits(train, tmp_path):
    """That layers are quantized is checked by the core in each run: it raises where a loader dropped the quantizer."""
    done = train("unsloth", "quant=int4", "model.dtype=bfloat16", "run.dir=int4")
    assert done.returncode == 0, done.stderr
    found = losses(tmp_path / "int4")
    assert found[-1] < 0.97 * found[0]


def test_another_quantizer_is_refused_before_anything_is_read(cli):
    done = cli("loader=unsloth", "quant=int8", "method=lora", "model.path=/nowhere")
    assert done.returncode == 2
    assert "it requires dense-base or nf4" in done.stderr
    assert "quant=int4" in done.stderr


@needs_unsloth
@pytest.mark.parametrize("quant", [["quant=int4", "quant.type=fp4"], ["quant=int4", "quant.double=false"]])
def test_a_quantizer_that_it_would_drop_is_refused(train, quant):
    done = train("unsloth", *quant)
    assert done.returncode == 2
    assert "quantizes to NF4 with double quantization only" in done.stderr
    assert "Traceback" not in done.stderr


@needs_unsloth
def test_in_a_sweep_it_has_a_process_of_its_own(cli, train, tmp_path, tiny_model):
    done = train("transformers,unsloth", "-m", "model.dtype=float32", "trainer.max_steps=2")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "sweeps").iterdir()
    states = [line.split(",")[-6] for line in (folder / "table.csv").read_text().splitlines()[1:]]
    assert states == ["done", "done"]
    names = [json.loads((folder / job / "lock.json").read_text())["patches"] for job in "01"]
    assert names == [[], ["peft", "torch", "transformers", "trl"]]


@needs_unsloth
@pytest.mark.slow
def test_it_passes_the_kit_in_a_process_of_its_own(cli):
    done = cli("plugins", "check", "unsloth")
    assert done.returncode == 0, done.stdout[-5000:]
    assert "FAILED" not in done.stdout


def test_without_the_package_it_says_what_to_type(monkeypatch):
    monkeypatch.setattr("core.registry.installed", lambda module: module != "unsloth")
    with pytest.raises(UserError, match="loader=unsloth needs unsloth") as caught:
        core.configure(["loader=unsloth"])
    assert caught.value.fix == "pip install --no-deps unsloth unsloth_zoo"


def test_choosing_it_imports_neither_torch_nor_unsloth():
    script = (
        "import sys, core\nconfig = core.configure(['loader=unsloth'])\n"
        "assert config.options['loader'].max_seq_length == 2048\n"
        "assert not {'torch', 'unsloth', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
