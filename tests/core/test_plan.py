"""``plan``: what is counted without weights is what a run then has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import core
from core import checkpointing, forecast, stages, weightless
from core.cli import command
from core.kept import kept_bytes
from core.lesson import Lesson
from core.plan import Plan, make_plan
from core.weights import autocast, hold_masters, load

LLAMA_7B = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
    "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.fixture
def usual(tiny_model: Path, rows_jsonl: Path) -> list[str]:
    return [
        f"model.path={tiny_model}", "data=jsonl", f"data.train={rows_jsonl}", "data.batch_size=4",
        "trainer.accelerator=cpu", "metric=none",
    ]  # fmt: skip


def planned(typed: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert command(["plan", *typed, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("objective", ["sft", "dpo", "kto"])
@pytest.mark.parametrize("method", ["full", "lora", "adapters"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_counted_is_what_autograd_keeps(tmp_path, tiny_model, method, dtype, objective):
    """Though nothing was computed. KTO takes its batch apart, which needs numbers: it is counted whole."""
    from core.testing import tiny

    columns = {"sft": ("prompt", "completion"), "dpo": ("chosen", "rejected"), "kto": ("completion", "label")}
    rows = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows_with(frozenset(columns[objective])))
    plan = make_plan(
        core.configure(
            [f"model.path={tiny_model}", f"model.dtype={dtype}", f"method={method}", f"objective={objective}",
             "data=jsonl", f"data.train={rows}", "data.batch_size=4", "data.holdout=0", "metric=none",
             "trainer.accelerator=cpu"]
        )
    )  # fmt: skip
    counted, found = counted_and_kept(plan)
    if objective == "kto":
        assert found < counted < 2.2 * found
    else:
        assert counted == pytest.approx(found, rel=0.02)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_blocks_that_are_computed_again_keep_their_inputs_and_one_of_them_all(usual, method):
    """Of two blocks: all inputs, what is kept outside of them, and half of what they would keep."""
    plain, again = (
        make_plan(core.configure([*usual, f"method={method}", f"trainer.gradient_checkpointing={word}"]))
        for word in ("false", "true")
    )
    whole, _ = counted_and_kept(plain)
    counted, lean = counted_and_kept(again)
    assert lean < 0.5 * whole
    assert counted == pytest.approx(lean + (whole - lean) / 2, rel=0.05)


def test_what_autocast_makes_of_trained_weights_is_there_until_the_forward_ends(usual, tmp_path):
    """With rows so short that it is more than a block's activations."""
    rows = tmp_path / "short.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n' * 4)
    typed = ["method=full", "model.dtype=bfloat16", "trainer.gradient_checkpointing=true", f"data.train={rows}"]
    typed += ["data.batch_size=1", "data.holdout=0"]
    plan = make_plan(core.configure([*usual, *typed]))
    counted, lean = counted_and_kept(plan)
    data = stages.read(plan)
    model = load(plan, data.head, training=True)
    context = stages.context(plan, data, model)
    model = stages.apply(plan, model, context).train()
    weights = {id(p) for block in checkpointing.again(model) for p in block.parameters() if p.dim() == 2}
    made: list[weakref.ref[torch.Tensor]] = []

    class Casts(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if func is torch.ops.aten._to_copy.default and id(args[0]) in weights:
                made.append(weakref.ref(out.untyped_storage()))
            return out

    with autocast(plan, context.device), Casts():
        loss = plan.objective.loss(model, forecast.largest(plan, data, model, context))
        there = sum(storage.nbytes() for ref in made if (storage := ref()) is not None)
    assert loss.total.requires_grad
    assert there == 2 * sum(p.numel() for b in checkpointing.again(model) for p in b.parameters() if p.dim() == 2)
    assert counted - lean == pytest.approx(there, rel=0.02)


def counted_and_kept(plan: Plan) -> tuple[int, int]:
    """Bytes as they are counted without data, and as autograd keeps them, inputs of blocks included."""
    data = stages.read(plan)
    shape = weightless.build(plan, data.head)
    seen = stages.context(plan, data, shape)
    shape = weightless.with_method(plan, shape, seen)
    batch = forecast.largest(plan, data, shape, seen)
    counted = kept_bytes(shape, plan.objective, batch, plan.dtype)

    model = load(plan, data.head, training=True)
    context = stages.context(plan, data, model)
    stages.reference(plan, model, data, context)
    model = stages.apply(plan, model, context)
    if batch.layout == "apart":
        assert forecast.attention.install(model)
    model.train()
    real = forecast.largest(plan, data, model, context)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in own:
            kept[place] = tensor.untyped_storage()
        return tensor

    def keep_input(_block: Any, inputs: tuple[torch.Tensor]) -> None:
        keep(inputs[0])

    for block in checkpointing.again(model):
        block.register_forward_pre_hook(keep_input)
    with autocast(plan, context.device):
        plan.objective.loss(model, real)  # the first one finds out how the model ends
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = plan.objective.loss(model, real)
    assert loss.total.requires_grad
    return counted, sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("method", ["full", "lora"])
def test_parameters_and_the_optimizers_state_are_those_of_the_run(usual, method, capsys):
    said = planned([*usual, f"method={method}"], capsys)
    plan = make_plan(core.configure([*usual, f"method={method}"]))
    assert said["memory"]["activations"] == counted_and_kept(plan)[0]
    data = stages.read(plan)
    model = load(plan, data.head, training=True)
    context = stages.context(plan, data, model)
    model = plan.method.apply(model, context)
    hold_masters(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    lesson = Lesson(model, plan.method, plan.objective, plan.optim, plan.config.options["optim"], context)
    optimizer = lesson.configure_optimizers()["optimizer"]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state = [v for values in optimizer.state.values() for v in values.values() if v.dim()]
    assert said["trained"]["parameters"] == sum(p.numel() for p in trained)
    assert said["memory"]["optimizer"] == pytest.approx(sum(v.nbytes for v in state), rel=0.01)
    frozen = sum(p.nbytes for p in model.parameters() if not p.requires_grad)
    assert said["memory"]["weights"] == frozen
    assert said["steps"]["steps"] == context.total_steps
    assert said["rows"]["train"] == len(data.train.rows)


@pytest.mark.parametrize(
    ("quant", "dtype", "held", "textbook"),
    [("none", "float32", 26.95, 28.0), ("int8", "bfloat16", 7.00, 7.0), ("int4", "bfloat16", 3.87, 3.5)],
)
def test_a_config_alone_is_enough(tmp_path, rows_jsonl, capsys, quant, dtype, held, textbook):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_7B))
    typed = [f"model.path={tmp_path}", "method=lora", f"quant={quant}", f"model.dtype={dtype}", "data=jsonl"]
    said = planned([*typed, f"data.train={rows_jsonl}", "data.max_length=64", "data.batch_size=1"], capsys)
    assert said["model"]["parameters"] == 6_738_415_616
    assert round(said["memory"]["weights"] / 1e9, 2) == held
    assert said["memory"]["nominal"] / 1e9 == textbook
    assert said["rows"] is None
    command(["plan", *typed, f"data.train={rows_jsonl}", "data.max_length=64"])
    out = capsys.readouterr().out
    assert "tokens unknown" in out
    assert f"warning no weights are in {tmp_path} yet" in out


@pytest.mark.parametrize("objective", ["sft", "pretrain", "dpo", "kto", "orpo", "simpo", "cpo"])
def test_a_config_alone_is_enough_for_every_objective(tmp_path, tiny_model, capsys, objective):
    """One that compares answers has two of them to hold."""
    from core.testing import tiny

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    columns = {"sft": ("prompt", "completion"), "pretrain": ("text",), "kto": ("completion", "label")}
    rows = tiny.rows_with(frozenset(columns.get(objective, ("chosen", "rejected"))))
    typed = [f"model.path={folder}", "method=full", "data=jsonl", "data.max_length=64", "data.batch_size=2"]
    typed += [f"data.train={tiny.write_rows(tmp_path / 'rows.jsonl', rows)}", "metric=none"]
    said = planned([*typed, f"objective={objective}"], capsys)
    assert said["rows"] is None
    assert said["steps"]["tokens"] == 2 * 64 * (1 if objective in columns else 2)
    assert said["memory"]["activations"] > 0


def test_a_step_has_the_examples_of_all_its_micro_batches(usual, capsys):
    assert planned([*usual, "method=full", "trainer.accumulate_grad_batches=3"], capsys)["steps"]["examples"] == 12


def test_lightning_is_not_waited_for(usual, tmp_path):
    """It trains nothing, and importing that takes seconds."""
    script = (
        "import sys; from core.cli import command\nassert command(sys.argv[1:]) == 0\n"
        "assert 'peft' in sys.modules and 'lightning' not in sys.modules"
    )
    typed = ["plan", *usual, "method=lora"]
    cache = {"HOOKTUNE_CACHE": str(tmp_path)}  # a plan that was kept would bring neither
    done = subprocess.run(
        [sys.executable, "-c", script, *typed], capture_output=True, text=True, env=os.environ | cache
    )
    assert done.returncode == 0, done.stderr


def test_the_screen_says_what_differs_and_no_weight_is_read(usual, tiny_model, tmp_path, capsys):
    (tmp_path / "bare").mkdir()
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / "bare" / file.name).write_bytes(file.read_bytes())
    bare = [line for line in usual if not line.startswith("model.path=")] + [f"model.path={tmp_path / 'bare'}"]
    assert command(["plan", *bare, "+method=lora", "method.rank=4", "seed=3"]) == 0
    out = capsys.readouterr().out
    differs = next(line for line in out.splitlines() if line.startswith("differs")).split()[1:]
    assert {"method=lora", "data=jsonl", "method.rank=4", "seed=3", "data.batch_size=4"} <= set(differs)
    assert not any(word.startswith(("optim.", "method.alpha", "metric.")) for word in differs)
    for term in ("weights", "trained", "gradients", "optimizer", "activations", "logits", "total", "nominal"):
        assert f"  {term} " in out


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--jsn"], "plan has no flag --jsn"),
        (["method=lorra"], "did you mean method=lora?"),
        (["method=full", "quant=int4"], "method=full cannot run with quant=int4"),
        (["model.path=nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_two_lines(typed, said, capsys):
    assert command(["plan", *typed]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) == 2
