"""Slips of whoever writes a part: two lines that name it, whatever it returned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import core
from core.contracts import Method, Score
from core.errors import RowError, UserError
from plugins.adamw.optim import AdamW
from plugins.full.method import Full
from plugins.jsonl.source import Files
from plugins.lora.method import LoRA
from plugins.mean_loss.metric import MeanLoss
from plugins.sft.objective import SFT
from plugins.unquantized.quantizer import Unquantized

LOSS = SFT.loss


@pytest.fixture
def run(monkeypatch, tmp_path, tiny_model, rows_jsonl):
    monkeypatch.chdir(tmp_path)

    def train(*more: str):
        usual = [
            f"model.path={tiny_model}", "model.dtype=float32", "data=jsonl", f"data.train={rows_jsonl}",
            "trainer.accelerator=cpu", "trainer.max_steps=2", "metric=loss", "optim.lr=1e-2",
            "data.cache=false",
        ]  # fmt: skip
        return core.train(core.configure([*usual, *more]))

    return train


def raising(*_):
    raise RowError("prompt", "is missing")
    yield


@pytest.mark.parametrize(
    ("part", "name", "wrong", "said"),
    [
        (Full, "apply", lambda *_: None, "method=full of hooktune (plugins/full): Full.apply() returned nothing"),
        (SFT, "loss", lambda *_: torch.zeros(()), "SFT.loss() returned Tensor, not Loss"),
        (SFT, "loss", lambda *a: replace(LOSS(*a), items=torch.ones(7)), "returned Loss.items of shape (7,)"),
        (MeanLoss, "measure", lambda *_: 0.5, "MeanLoss.measure() returned float, not Score"),
        (Files, "rows", raising, "Files.rows() raised RowError: prompt: is missing"),
        (Files, "rows", lambda *_: 3, "Files.rows() returned int, not Iterable"),
        (AdamW, "build", lambda *_: None, "optim=adamw of hooktune (plugins/adamw): AdamW.build() returned nothing"),
        (Method, "optimizer", lambda *_: None, "AdamW.build() returned nothing, not Optimizer"),
        (
            Unquantized,
            "prepare",
            lambda *_: None,
            "quant=none of hooktune (plugins/unquantized): Unquantized.prepare()",
        ),
    ],
)
def test_a_slip_names_the_part(run, monkeypatch, part, name, wrong, said):
    monkeypatch.setattr(part, name, wrong)
    with pytest.raises(UserError) as caught:
        run("method=full")
    assert said in caught.value.what
    assert len(str(caught.value).splitlines()) == 2


def test_a_method_that_freezes_all_is_named_with_a_fix_that_it_has(run, monkeypatch):
    freezes = lambda self, model, context: model.requires_grad_(False)  # noqa: E731
    for part, name, fix in ((Full, "full", "mend Full.apply()"), (LoRA, "lora", "method.targets=[NAMES")):
        monkeypatch.setattr(part, "apply", freezes)
        with pytest.raises(UserError, match=rf"{part.__name__}\.apply\(\) left nothing to train") as caught:
            run(f"method={name}")
        assert caught.value.fix.startswith(fix)


def test_an_attribute_that_every_part_of_a_kind_has_is_missed(run, monkeypatch):
    monkeypatch.setattr(AdamW, "__init__", lambda self, options: None)
    with pytest.raises(UserError, match="AdamW does not set lr"):
        run("method=full")


def test_a_score_knows_which_direction_is_good():
    with pytest.raises(UserError, match="better=neither is not a choice"):
        Score("length", 0.5, 1, 0.0, 1.0, "neither")


def test_train_takes_a_config():
    with pytest.raises(UserError, match=r"core\.train takes a config, not a list"):
        core.train(["method=lora"])


def test_a_source_without_rows_is_named(run, monkeypatch):
    monkeypatch.setattr(Files, "rows", lambda *_: [])
    with pytest.raises(UserError, match=r"are empty: data=jsonl of hooktune \(plugins/jsonl\) reads no row"):
        run("method=lora")
