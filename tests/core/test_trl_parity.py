"""The losses of trl's own SFTTrainer, on the same rows with the same supervised tokens."""

from __future__ import annotations

import json

import core

STEPS, LR, BATCH = 10, 1e-3, 4


def test_first_ten_steps_of_sft_equal_trl(tmp_path, monkeypatch, tiny_model, rows_jsonl):
    monkeypatch.chdir(tmp_path)
    overrides = [
        f"model.path={tiny_model}", "model.dtype=float32", "data=jsonl", f"data.train={rows_jsonl}", "data.holdout=0",
        f"data.batch_size={BATCH}", f"trainer.max_steps={STEPS}", "trainer.accelerator=cpu", "metric=none",
        "method=full", f"optim.lr={LR}", "optim.schedule=constant", "optim.warmup=0", "trainer.gradient_clip_val=1.0",
    ]  # fmt: skip
    ours = core.train(core.configure(overrides))
    mine = [line for line in ours.metrics if line["split"] == "train"]

    theirs = trl_losses(tiny_model, rows_jsonl, order_of(ours))
    for step, (a, b) in enumerate(zip(mine, theirs, strict=True), 1):
        assert abs(a["loss"] - b) < 1e-4, f"step {step}: {a['loss']} here, {b} in trl"
    assert mine[-1]["loss"] < 0.9 * mine[0]["loss"]  # there was something to agree on


def order_of(result) -> list[int]:
    """Rows in the order in which they were trained."""
    from core.micro_batches import order

    return order(64, result.plan.config.seed, epoch=0)[: STEPS * BATCH]


def trl_losses(model_path, rows_path, order) -> list[float]:
    """trl's trainer on the same rows in the same order; the assistant's text and its end token are supervised."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(model_path)
    rows = [json.loads(line) for line in rows_path.read_text().splitlines()]

    def encoded(row):
        user = [{"role": "user", "content": row["prompt"]}]
        prompt = tokenizer.apply_chat_template(user, tokenize=False, add_generation_prompt=True)
        before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        answer = tokenizer(row["completion"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
        return {"input_ids": before + answer, "completion_mask": [0] * len(before) + [1] * len(answer)}

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    trainer = InOrder(
        model=AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([encoded(rows[i]) for i in order]),
        args=SFTConfig(
            output_dir=str(model_path.parent / "trl"),
            per_device_train_batch_size=BATCH,
            max_steps=STEPS,
            learning_rate=LR,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            logging_steps=1,
            logging_first_step=True,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            completion_only_loss=True,
            disable_tqdm=True,
            seed=0,
        ),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
