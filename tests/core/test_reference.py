"""Reference values are computed once for each model and set of rows, and by nobody else's weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import core
from core.batch import lay_out
from core.logprobs import token_logprobs
from core.testing import tiny
from core.testing.rig import Rig


@pytest.fixture
def asked(tmp_path, tiny_model, monkeypatch, reference_asked) -> Callable[..., int]:
    """``asked(...)`` trains two steps and says how many examples the reference was asked about."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOKTUNE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(tiny_model, tmp_path / "model")
    pairs = tiny.rows_with(["prompt", "chosen", "rejected"])
    tiny.write_rows(tmp_path / "pairs.jsonl", pairs[:16])
    tiny.write_rows(tmp_path / "held_out.jsonl", pairs[16:24])

    def run(**changes: str) -> int:
        reference_asked.clear()
        overrides = [f"{key.replace('__', '.')}={value}" for key, value in (SETTINGS | changes).items()]
        run.result = core.train(core.configure(overrides))
        return sum(reference_asked)

    return run


SETTINGS = {
    "method": "lora", "objective": "dpo", "model.path": "model", "model.dtype": "float32", "data": "jsonl",
    "data.train": "pairs.jsonl", "data.validation": "held_out.jsonl", "data.tolerance": "1", "data.batch_size": "8",
    "trainer.max_steps": "2", "trainer.accelerator": "cpu", "optim.lr": "0.01",
}  # fmt: skip


def losses(result) -> list[float]:
    return [line["loss"] for line in result.metrics if line["split"] == "train"]


def test_a_second_run_takes_the_values_of_the_first_and_trains_the_same(asked, capsys):
    assert asked() == 16 + 8
    first = losses(asked.result), asked.result.before, asked.result.after
    assert "reference  computed by an earlier run" not in capsys.readouterr().out
    assert asked() == 0
    assert (losses(asked.result), asked.result.before, asked.result.after) == first
    assert "reference  computed by an earlier run" in capsys.readouterr().out


def test_what_is_trained_on_top_does_not_ask_again(asked):
    assert asked()
    assert not asked(seed="5", optim__lr="0.5", method__rank="2", trainer__max_steps="1")
    assert not asked(method="adapters")


def test_a_validation_pass_needs_the_held_out_ones_as_they_are_trained(asked):
    assert asked(model__dtype="bfloat16") == 16 + 8
    assert asked(model__dtype="bfloat16", trainer__limit_val_batches="1.0") == 8


def test_other_weights_rows_or_parts_are_asked_anew(asked, tmp_path):
    assert asked() == 24
    assert asked(quant="int8", model__dtype="bfloat16") == 24
    assert asked(model__dtype="bfloat16") == 24
    assert asked(data__batch_size="4") == 16  # other rows beside each round otherwise
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    rows[3]["chosen"] = "none"
    tiny.write_rows(tmp_path / "pairs.jsonl", rows)
    assert asked() == 16
    file = tmp_path / "model" / "model.safetensors"
    save_file({name: 2 * value for name, value in load_file(file).items()}, file, {"format": "pt"})
    assert asked() == 24


def test_going_on_from_a_run_the_values_are_of_its_adapter(asked):
    assert asked(run__dir="one") == 24
    assert asked(run__dir="two", optim__lr="0.02") == 0
    assert asked(model__path="one", run__dir="three") == 24
    assert asked(model__path="two") == 24
    assert losses(asked.result)[0] == pytest.approx(0.693147, abs=1e-5)
    assert asked(model__path="one") == 0
    assert losses(asked.result)[0] == pytest.approx(0.693147, abs=1e-5)


@pytest.mark.parametrize("content", ["", "{}", '{"values": {"reference_chosen": [0.5]}}', '{"values": [1]}', "\0"])
def test_a_damaged_file_is_computed_again(asked, tmp_path, content):
    asked()
    files = list((tmp_path / "cache" / "reference").iterdir())
    assert len(files) == 2
    for file in files:
        file.write_text(content)
    assert asked() == 24
    assert losses(asked.result)[0] == pytest.approx(0.693147, abs=1e-5)


def test_a_cache_that_cannot_be_written_costs_time_only(asked, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "reference").write_text("a file where the folder should be")
    assert asked() == 24
    assert asked() == 24


def test_weights_that_are_in_no_folder_are_asked_each_time(asked, monkeypatch):
    monkeypatch.setattr("core.computed_by.stamp", lambda folder: [])
    assert asked() == 24
    assert asked() == 24


def test_a_model_that_somebody_changed_is_asked_itself(asked, tmp_path):
    """What the contracts' checks hand over is not always what the plan would load."""
    asked()
    rig = Rig([f"{key}={value}" for key, value in SETTINGS.items()])
    model = rig.base()
    usual = rig.context(model).examples[0]["reference_chosen"]
    for parameter in model.parameters():
        parameter.data *= 1.5
    assert rig.context(model).examples[0]["reference_chosen"] != usual


def test_dropout_is_off_meanwhile_and_on_again_afterwards(asked):
    asked(run__dir="one", method__dropout="0.5")
    rig = Rig([f"{key}={value}" for key, value in (SETTINGS | {"model.path": "one", "method.dropout": "0.5"}).items()])
    model = rig.base()
    context = rig.context(model)
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.5}
    some = context.examples[:4]
    with torch.no_grad():
        said = token_logprobs(model.eval(), lay_out(some, "padded", context.pad)).sum("chosen")
    kept = [example["reference_chosen"] for example in some]
    assert kept == pytest.approx(said.tolist(), rel=1e-5)


def test_held_out_rows_are_asked_as_they_are_measured(asked):
    """Without autocast and as few at a time: else a half-precision model would differ from itself."""
    half = {"model__dtype": "bfloat16", "metric": "preference"}
    asked(run__dir="one", optim__lr="0.1", **half)
    asked(model__path="one", **half)
    (margin,) = asked.result.before.also
    assert (asked.result.before.value, margin.value) == (0.5, 0)
