"""DPO's reference is the model before training, asked once, however its weights are held."""

from __future__ import annotations

import math

import pytest
import torch

import core
from core.batch import lay_out
from core.logprobs import token_logprobs
from core.testing import tiny
from core.testing.rig import Rig


@pytest.fixture
def usual(tmp_path, tiny_model, monkeypatch):
    """``usual(quant)`` are the overrides of a DPO run on the tiny model."""
    monkeypatch.chdir(tmp_path)
    tiny.write_rows(tmp_path / "pairs.jsonl", tiny.rows_with(["prompt", "chosen", "rejected"])[:24])

    def overrides(quant: str) -> list[str]:
        settings = [f"model.path={tiny_model}", f"quant={quant}", "method=lora", "objective=dpo", "data=jsonl"]
        settings += ["data.train=pairs.jsonl", "data.batch_size=4", "trainer.accelerator=cpu", "metric=none"]
        dtype = "float32" if quant == "none" else "bfloat16"
        return [*settings, "trainer.max_steps=3", "data.holdout=0", "data.tolerance=1", f"model.dtype={dtype}"]

    return overrides


@pytest.mark.parametrize("quant", ["none", "int8", "int4"])
def test_the_first_loss_is_log_two_and_the_reference_is_asked_once(usual, quant, reference_asked):
    result = core.train(core.configure(usual(quant)))
    steps = [line for line in result.metrics if line["split"] == "train"]
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-5 if quant == "none" else 2e-2)
    assert steps[0]["rewards/margins"] == pytest.approx(0, abs=1e-5 if quant == "none" else 4e-2)
    assert len(steps) == 3
    assert sum(reference_asked) == 24


@pytest.mark.parametrize("quant", ["none", "int8", "int4"])
def test_the_reference_is_what_the_base_says(usual, quant):
    rig = Rig(usual(quant))
    base = rig.base()
    context = rig.context(base)
    some = [context.examples[i] for i in range(4)]
    with torch.no_grad():
        said = token_logprobs(base.train(), lay_out(some, "padded", context.pad))
    for name in ("chosen", "rejected"):
        kept = torch.tensor([example[f"reference_{name}"] for example in some], dtype=torch.float32)
        torch.testing.assert_close(
            kept, said.sum(name), **({"atol": 1e-4, "rtol": 1e-5} if quant == "none" else {"atol": 0.2, "rtol": 2e-2})
        )
