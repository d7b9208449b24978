"""What a method saves: nothing trained is lost, whoever wrote it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import core
from core.errors import UserError
from core.resume import resume
from plugins.full.method import Full
from plugins.lora.method import LoRA


@pytest.fixture
def run(monkeypatch, tmp_path, tiny_model, rows_jsonl):
    monkeypatch.chdir(tmp_path)

    def train(*more: str):
        usual = [
            f"model.path={tiny_model}", "model.dtype=float32", "data=jsonl", f"data.train={rows_jsonl}",
            "trainer.accelerator=cpu", "trainer.max_steps=2", "metric=loss", "optim.lr=1e-2", "run.dir=out",
            "data.cache=false",
        ]  # fmt: skip
        return core.train(core.configure([*usual, *more]))

    return train


def test_an_adapter_that_could_not_be_loaded_is_refused_before_weights_are_read(run, monkeypatch, tmp_path):
    monkeypatch.setattr(Full, "saves", "adapter")
    with pytest.raises(UserError) as caught:
        run("method=full")
    assert caught.value.what == "method=full of hooktune (plugins/full): Full saves an adapter and does not define load"
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(Full, "saves", "adaptor")
    with pytest.raises(UserError, match="saves is 'adaptor', neither 'adapter' nor 'model'"):
        run("method=full")


@pytest.mark.parametrize(("method", "part"), [("lora", LoRA), ("full", Full)])
def test_a_method_that_saves_nothing_fails_and_its_training_is_kept(run, monkeypatch, tmp_path, method, part):
    whole = run(f"method={method}", "run.dir=whole")
    with monkeypatch.context() as broken:
        broken.setattr(part, "save", lambda *_: None)
        with pytest.raises(UserError, match="saved nothing") as caught:
            run(f"method={method}")
    assert caught.value.fix == f"mend {part.__name__}.save(), then python -m core resume {tmp_path / 'out'}"
    assert json.loads((tmp_path / "out" / "status.json").read_text())["state"] == "failed"
    again = resume(tmp_path / "out")
    assert again.after.value == pytest.approx(whole.after.value, abs=1e-6)
    assert [line["loss"] for line in again.metrics if line["split"] == "train"] == [
        line["loss"] for line in whole.metrics if line["split"] == "train"
    ]


def test_a_method_that_raises_while_it_saves_keeps_its_training(run, monkeypatch, tmp_path):
    def save(self, model, folder: Path, adapter):
        raise ZeroDivisionError

    monkeypatch.setattr(LoRA, "save", save)
    with pytest.raises(ZeroDivisionError):
        run("method=lora")
    assert (tmp_path / "out" / "checkpoints" / "last.ckpt").exists()
