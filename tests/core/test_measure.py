"""Measuring leaves the model as it was, and does not copy the output layer's weight."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

import core
from core.contracts import Score
from core.measure import measure
from core.screen import show_scores


@pytest.fixture
def model(tiny_model):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model).train()


class Asks:
    """A metric that generates for two prompts at a time and notes what it was given."""

    def measure(self, model, rows, context):
        assert not model.training
        assert not torch.is_grad_enabled()
        model.generate(input_ids=torch.tensor([[5, 6, 7], [8, 9, 10]]), max_new_tokens=2, do_sample=False)
        return Score("asks", 0.0, len(rows), 0.0, 0.0, "higher")


def plan(metric) -> SimpleNamespace:
    trainer = SimpleNamespace(devices=1, num_nodes=1)
    options = {"metric": SimpleNamespace(rows=2)}
    return SimpleNamespace(metric=metric, config=SimpleNamespace(options=options, trainer=trainer))


def test_the_output_layer_gets_its_input_in_one_piece(model):
    """``generate`` hands it a slice of the prompt's states, which torch multiplies prompt by prompt."""
    pieces: list[bool] = []
    model.lm_head.register_forward_hook(lambda _layer, inputs, _output: pieces.append(inputs[0].is_contiguous()))
    measure(plan(Asks()), model, [{}, {}], None, Console(quiet=True))
    assert pieces == [True, True]
    assert not model.lm_head._forward_pre_hooks


def test_modes_come_back_and_rows_are_limited(model):
    model.model.layers[0].eval()
    assert measure(plan(Asks()), model, [{}, {}, {}], None, Console(quiet=True)).n == 2
    assert model.training
    assert not model.model.layers[0].training


def test_nothing_is_measured_without_a_metric_or_a_row(model):
    assert measure(plan(None), model, [{}], None, Console(quiet=True)) is None
    assert measure(plan(Asks()), model, [], None, Console(quiet=True)) is None


@pytest.fixture
def measured_before(monkeypatch, tmp_path, tiny_model, rows_jsonl):
    """``measured_before(...)`` runs one step and says whether the value before was measured, not remembered."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOKTUNE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(tiny_model, tmp_path / "model")
    shutil.copy(rows_jsonl, tmp_path / "rows.jsonl")
    from plugins.mean_loss.metric import MeanLoss

    calls: list[int] = []
    original = MeanLoss.measure

    def counted(self, model, rows, context):
        calls.append(len(rows))
        return original(self, model, rows, context)

    monkeypatch.setattr(MeanLoss, "measure", counted)

    def run(**changes: str) -> bool:
        settings = {
            "method": "lora", "model.path": "model", "model.dtype": "float32", "data": "jsonl",
            "data.train": "rows.jsonl", "data.validation": "rows.jsonl", "metric": "loss", "trainer.max_steps": "1",
            "data.tolerance": "1",
            "trainer.accelerator": "cpu",
        }  # fmt: skip
        calls.clear()
        core.train(core.configure([f"{key.replace('__', '.')}={v}" for key, v in (settings | changes).items()]))
        return len(calls) == 2

    return run


def test_the_value_before_is_measured_once(measured_before, tmp_path):
    assert measured_before()
    assert not measured_before()
    assert not measured_before(seed="5", optim__lr="0.5", method__rank="2"), "what is trained changes nothing before"


def test_the_value_before_is_measured_again_for_anything_else(measured_before, tmp_path, monkeypatch):
    assert measured_before()
    assert measured_before(quant="int8")
    assert measured_before(metric__rows="7")
    assert measured_before(data__max_length="40")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    rows[3]["completion"] = "none"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert measured_before(), "as many rows, another content"
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "model" / "model.safetensors")
    save_file({k: 2 * v for k, v in weights.items()}, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    assert measured_before(), "another model in the same place"
    monkeypatch.setattr("core.computed_by.code_of", lambda part: ["edited"])
    assert measured_before(), "a part whose code was changed"


def test_a_value_is_shown_in_the_unit_that_the_metric_says(capsys, monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", False)
    words = Score("words", 0.5, 4, 0.25, 1.0, "higher", unit="words")
    share = Score("exact", 0.5, 4, 0.25, 1.0, "higher", unit="%")
    plain = Score("rate", 0.5, 4, 0.25, 1.0, "higher")
    for score, said in ((words, "0.5000 words"), (share, "50.0 %"), (plain, "0.5000  (0.2500 to 1.0000)")):
        show_scores(Console(width=120), score, score)
        assert capsys.readouterr().out.count(said) == 2
