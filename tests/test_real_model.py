"""The main job and what it leaves behind, on SmolLM2-135M-Instruct and real reviews. Slow: minutes each."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import core

pytestmark = pytest.mark.slow

PLAIN_PEFT = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
adapter, quant, dtype, packing, out = sys.argv[1:]
config = {
    "none": None,
    "int8": BitsAndBytesConfig(load_in_8bit=True),
    "int4": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                               bnb_4bit_compute_dtype=getattr(torch, dtype)),
}[quant]
base = json.load(open(f"{adapter}/adapter_config.json"))["base_model_name_or_path"]
model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype), quantization_config=config)
for layer in model.modules():
    if packing == "off" and hasattr(layer, "support_avx512bf16_for_cpu"):
        layer.support_avx512bf16_for_cpu = False
model = PeftModel.from_pretrained(model, adapter).eval()
tokenizer = AutoTokenizer.from_pretrained(adapter)
assert not any(name == "core" or name.startswith("core.") for name in sys.modules)
chat = [{"role": "user", "content": "What is the capital of France?"}]
text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
    answer = model.generate(**inputs, do_sample=False, max_new_tokens=24, pad_token_id=tokenizer.pad_token_id)
torch.save((logits, tokenizer.decode(answer[0, inputs.input_ids.shape[1]:], skip_special_tokens=True)), out)
"""


# where the CPU has AVX512-BF16 the library repacks 4-bit layers for speed, which rounds their products otherwise
@pytest.mark.parametrize(
    ("quant", "packing", "worst"), [("none", "off", 0), ("int8", "off", 0), ("int4", "off", 0), ("int4", "on", 4.0)]
)
def test_an_adapter_is_the_same_in_plain_peft(tmp_path, monkeypatch, quant, packing, worst):
    import torch

    monkeypatch.chdir(tmp_path)
    overrides = ["method=lora", f"quant={quant}", "data.train_rows=64", "data.validation_rows=0", "metric=none"]
    result = core.train(core.configure(overrides))
    out = tmp_path / "plain.pt"
    dtype = result.plan.start.model.dtype
    command = [sys.executable, "-c", PLAIN_PEFT, str(result.folder / "adapter"), quant, dtype, packing, str(out)]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=300)
    theirs, text = torch.load(out)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    rendered = result.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    inputs = result.tokenizer(rendered, add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        ours = result.model(**inputs).logits
    gap = (ours - theirs).abs().max().item()
    print(f"{quant}, repacking {packing}: largest difference of a logit {gap}")
    assert gap <= worst
    from core.generate import answer

    assert answer(result.model, result.tokenizer, chat[0]["content"], max_new_tokens=24) == text


@pytest.mark.parametrize(("method", "quant"), [("lora", "none"), ("lora", "int8"), ("lora", "int4"), ("full", "none")])
def test_twenty_steps_on_one_batch_learn_it(tmp_path, monkeypatch, method, quant):
    monkeypatch.chdir(tmp_path)
    lr = "1e-3" if method == "lora" else "1e-5"
    few = ["data.train_rows=4", "data.validation_rows=0", "data.batch_size=4", "trainer.max_steps=20", "metric=none"]
    steady = ["optim.schedule=constant", "optim.warmup=0", f"optim.lr={lr}"]
    result = core.train(core.configure([f"method={method}", f"quant={quant}", *few, *steady]))
    losses = [line["loss"] for line in result.metrics]
    assert losses[-1] < 0.5 * losses[0]


def test_the_main_job_teaches_the_task(tmp_path):
    """``python -m core +method=lora +quant=int4``: exact answers on 300 held-out reviews."""
    command = [sys.executable, "-m", "core", "+method=lora", "+quant=int4", f"run.dir={tmp_path / 'run'}"]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=1800)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    before, after = (next(line for line in lines if line["split"] == split) for split in ("before", "after"))
    assert (before["metric"], before["n"], before["value"]) == ("exact", 300, 0.0)
    assert after["n"] == 300
    # seven settings gave 77.7 to 83.0 %, and 300 rows leave 4 points of chance either way (decision 11)
    assert after["value"] >= 0.72


def test_a_whole_model_learns_from_the_reviews(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ["method=full", "optim.lr=5e-5", "data.train_rows=96", "data.validation_rows=40", "metric=loss"]
    result = core.train(core.configure(overrides))
    assert result.after.value < 0.5 * result.before.value
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(result.folder / "model").num_parameters() == 134_515_008


@pytest.mark.parametrize(
    "typed",
    [
        ["method=lora"],
        ["method=adapters", "quant=int4"],
        ["method=full"],
        ["method=full", "trainer.gradient_checkpointing=true"],
    ],
)
def test_memory_at_the_peak_is_as_predicted(tmp_path, typed):
    """Within a fifth, in a process of its own; `python benchmarks/memory.py` has all of them."""
    few = ["trainer.max_steps=3", "data.batch_size=8", "metric=none", f"run.dir={tmp_path}/run"]
    subprocess.run([sys.executable, "-m", "core", *typed, *few], check=True, timeout=900)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["predicted_memory"] == pytest.approx(status["peak_memory"], rel=0.2)
