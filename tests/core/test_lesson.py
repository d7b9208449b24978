"""What is trained is held in float32, and the learning rate follows its schedule."""

from __future__ import annotations

import pytest
import torch

import core
from core.lesson import factor
from core.options import OptimOptions
from core.weights import hold_masters


def options(**changed) -> OptimOptions:
    return OptimOptions(**{"lr": 1.0, "weight_decay": 0.0, "schedule": "cosine", "warmup": 0.2, **changed})


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_after_the_warm_up_a_schedule_is_the_fields_own(schedule):
    from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

    make = {"linear": get_linear_schedule_with_warmup, "cosine": get_cosine_schedule_with_warmup}[schedule]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = make(optimizer, num_warmup_steps=4, num_training_steps=20).lr_lambdas[0]
    ours = [factor(step, 20, options(schedule=schedule)) for step in range(20)]
    assert ours[4:] == pytest.approx([theirs(step) for step in range(4, 20)])
    assert ours[:4] == [0.25, 0.5, 0.75, 1.0], "the first step is not wasted on a rate of zero"


@pytest.fixture
def trained(monkeypatch, tmp_path, tiny_model, rows_jsonl):
    """``trained(...)`` runs a few steps in bfloat16; returns the result, and each step's (dtypes trained, casting)."""
    monkeypatch.chdir(tmp_path)
    from core.lesson import Lesson

    seen: list[tuple[set[torch.dtype], set[bool]]] = []
    step = Lesson.training_step

    def watched(self, batch, index):
        dtypes = {p.dtype for p in self.model.parameters() if p.requires_grad}
        casting = {m.cast_input_dtype_enabled for m in self.model.modules() if hasattr(m, "cast_input_dtype_enabled")}
        seen.append((dtypes, casting))
        return step(self, batch, index)

    monkeypatch.setattr(Lesson, "training_step", watched)

    def run(*more: str):
        usual = [
            f"model.path={tiny_model}", "model.dtype=bfloat16", "data=jsonl", f"data.train={rows_jsonl}",
            "trainer.max_steps=10", "trainer.accelerator=cpu", "metric=none",
        ]  # fmt: skip
        return core.train(core.configure([*usual, *more])), seen

    return run


@pytest.mark.parametrize("method", ["lora", "full"])
def test_masters_are_float32_while_the_base_is_bfloat16(trained, method):
    _, seen = trained(f"method={method}")
    assert all(dtypes == {torch.float32} for dtypes, _ in seen)


def test_frozen_weights_stay_as_they_are():
    model = torch.nn.Linear(2, 2, dtype=torch.bfloat16)
    model.bias.requires_grad_(False)
    hold_masters(model)
    assert (model.weight.dtype, model.bias.dtype) == (torch.float32, torch.bfloat16)


def test_steps_too_small_for_bfloat16_add_up(trained):
    """Near 1 it has no number between 0.996 and 1: ten steps of 0.001 would each be rounded away."""
    from safetensors.torch import load_file

    result, _ = trained("method=full", "optim.lr=1e-3", "optim.schedule=constant", "optim.warmup=0")
    saved = load_file(result.folder / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    norms = torch.cat([tensor for name, tensor in saved.items() if "norm" in name])
    assert (norms != 1).float().mean() > 0.5


def test_adapters_leave_their_inputs_alone_under_autocast_and_take_them_again_afterwards(trained):
    result, seen = trained("method=lora")
    assert all(casting == {False} for _, casting in seen)
    after = {m.cast_input_dtype_enabled for m in result.model.modules() if hasattr(m, "cast_input_dtype_enabled")}
    assert after == {True}


def test_adapters_without_such_a_switch_train_under_autocast_too(tiny_model):
    """IA3's layers have none; ``disable_input_dtype_casting`` of peft raises an AttributeError at them."""
    from types import SimpleNamespace

    from peft import IA3Config, get_peft_model
    from transformers import AutoModelForCausalLM

    from core.keep_inputs import KeepInputs

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    model = get_peft_model(base, IA3Config(target_modules="all-linear", feedforward_modules=[]))
    callback, trainer = KeepInputs(), SimpleNamespace(precision="bf16-mixed")
    callback.on_train_start(trainer, model)  # pyright: ignore[reportArgumentType]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(input_ids=torch.tensor([[3, 4, 5]])).logits.sum().backward()
    callback.on_train_end(trainer, model)  # pyright: ignore[reportArgumentType]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained
    assert all(parameter.grad is not None for parameter in trained)


def test_the_logged_rate_is_the_schedules(trained):
    result, _ = trained("method=lora", "optim.lr=0.5", "optim.schedule=cosine", "optim.warmup=0.2")
    rates = [line["lr"] for line in result.metrics if line["split"] == "train"]
    assert rates == pytest.approx([0.5 * factor(step, 10, options()) for step in range(10)], rel=1e-6)
