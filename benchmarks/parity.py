"""The losses of trl's own trainers and ours, step by step: the same model, token ids, order, batches and optimizer.

Run: python benchmarks/parity.py           SmolLM2-135M in float32; writes docs/parity.md
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl_side import classes, row, watched

import core
from core.micro_batches import order
from core.quiet import hush
from core.testing import tiny

STEPS, BATCH = 10, 4
RANK, ALPHA, LORA_TIMES = 16, 32, 20
"""Of LoRA; it learns at so many times the rate."""
HERE = Path(__file__).resolve().parent.parent
PAIRS, LABELLED, ANSWERED = ("chosen", "rejected"), ("completion", "label"), ("completion",)


@dataclass(frozen=True)
class Case:
    """One loss.

    Attributes:
        ours: Overrides after ``objective=``.
        trainer: Of trl.
        theirs: Values of its config.
        columns: What the rows offer.
        rank: Of LoRA on all linear layers; 0 trains all weights.
    """

    ours: str
    trainer: str
    theirs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    columns: Sequence[str] = PAIRS
    rank: int = 0

    @property
    def method(self) -> list[str]:
        """Ours."""
        return ["method=lora", f"method.rank={self.rank}", f"method.alpha={ALPHA}"] if self.rank else ["method=full"]

    @property
    def adapter(self) -> Any:
        """Theirs: peft's config of the same."""
        if not self.rank:
            return None
        from peft import LoraConfig

        return LoraConfig(r=self.rank, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")


CASES = {
    "sft": Case("sft", "SFT", columns=ANSWERED),
    "sft, LoRA": Case("sft", "SFT", columns=ANSWERED, rank=RANK),
    "dpo": Case("dpo", "DPO"),
    "dpo, LoRA": Case("dpo", "DPO", rank=RANK),
    "dpo, ipo": Case("dpo objective.loss=ipo", "DPO", {"loss_type": ["ipo"]}),
    "dpo, hinge": Case("dpo objective.loss=hinge", "DPO", {"loss_type": ["hinge"]}),
    "dpo, length-normalised": Case("dpo objective.length_normalised=true", "DPO", {"loss_type": ["sigmoid_norm"]}),
    "dpo, robust": Case(
        "dpo objective.loss=robust objective.label_smoothing=0.1",
        "DPO",
        {"loss_type": ["robust"], "label_smoothing": 0.1},
    ),
    "kto": Case(f"kto objective.block={BATCH}", "KTO", columns=LABELLED),
    "kto, weights 1.5 and 0.5": Case(
        f"kto objective.block={BATCH} objective.desirable_weight=1.5 objective.undesirable_weight=0.5",
        "KTO",
        {"desirable_weight": 1.5, "undesirable_weight": 0.5},
        LABELLED,
    ),
    "cpo": Case("cpo objective.nll=batch", "CPO"),
    "cpo, hinge": Case("cpo objective.nll=batch objective.loss=hinge", "CPO", {"loss_type": "hinge"}),
    "cpo, ipo": Case("cpo objective.nll=batch objective.loss=ipo", "CPO", {"loss_type": "ipo"}),
    "cpo, nll weight 0.3": Case("cpo objective.nll=batch objective.nll_weight=0.3", "CPO", {"cpo_alpha": 0.3}),
    "cpo, label smoothing": Case(
        "cpo objective.nll=batch objective.label_smoothing=0.1", "CPO", {"label_smoothing": 0.1}
    ),
    "simpo, label smoothing": Case(
        "simpo objective.label_smoothing=0.1", "CPO",
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0, "label_smoothing": 0.1},
    ),
    "simpo": Case(
        "simpo", "CPO", {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0}
    ),
    "orpo": Case("orpo objective.nll=batch", "ORPO"),
}  # fmt: skip


def compare(name: str, model: Path, lr: float) -> tuple[list[float], list[float]]:
    """Losses of ten steps, ours and trl's, on the sums of the kit in words."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        lr *= LORA_TIMES if case.rank else 1
        rows = tiny.write_rows(Path(folder) / "rows.jsonl", tiny.rows_with(case.columns))
        result = core.train(
            core.configure([
                f"model.path={model}", "model.dtype=float32", "data=jsonl", f"data.train={rows}", "data.holdout=0",
                f"data.batch_size={BATCH}", f"trainer.max_steps={STEPS}", "trainer.accelerator=cpu", "metric=none",
                *case.method, f"optim.lr={lr}", "optim.schedule=constant", "optim.warmup=0", "optim.weight_decay=0",
                "trainer.gradient_clip_val=1.0", f"run.dir={folder}/run",
                *(word if "=" in word else f"objective={word}" for word in case.ours.split()),
            ])
        )  # fmt: skip
        ours = [line["loss"] for line in result.metrics if line["split"] == "train"]
        from core import stages

        plan = result.plan
        examples = stages.read(plan).train.examples
        chosen = [examples[i] for i in order(len(examples), plan.config.seed, 0)[: STEPS * BATCH]]
        return ours, _theirs(case, model, chosen, lr, Path(folder))


def _theirs(case: Case, path: Path, examples: Sequence[Any], lr: float, folder: Path) -> list[float]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    losses: list[float] = []
    more = {"train_sampling_strategy": "sequential"} if case.trainer == "KTO" else {}
    if case.trainer == "SFT":
        more = {"completion_only_loss": True}
    arguments = classes(case.trainer)[1](
        output_dir=str(folder / "trl"), per_device_train_batch_size=BATCH, max_steps=STEPS, learning_rate=lr,
        lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0, report_to="none", save_strategy="no",
        use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, seed=0, max_length=1024,
        logging_steps=1000, **{**more, **case.theirs},
    )  # fmt: skip
    torch.manual_seed(0)  # the adapters start as ours do
    trainer = watched(case.trainer, lambda _, loss: losses.append(loss))(
        model=AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(path),
        train_dataset=Dataset.from_list([row(case.trainer, example) for example in examples]),
        args=arguments,
        peft_config=case.adapter,
    )
    trainer.train()
    return losses


def page(table: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """docs/parity.md."""
    lines = [
        "# The same losses as trl",
        "<!-- written by benchmarks/parity.py -->",
        f"Ten steps of trl {version('trl')}'s own trainers and of ours: SmolLM2-135M-Instruct in float32, all weights "
        f"trained or LoRA of rank {RANK} on all linear layers, batches of {BATCH} made-up sums, AdamW with a constant "
        f"rate of {RATE:g} ({LORA_TIMES * RATE:g} for LoRA), clipped at 1, the same token ids in the same order. "
        "`python benchmarks/parity.py` writes this page; a test does it with a tiny model and allows 1e-4.",
        "| objective | trl's trainer | first loss | tenth loss, ours | trl's | largest difference |\n"
        "|---|---|---|---|---|---|\n"
        + "\n".join(
            f"| {name} | {CASES[name].trainer}Trainer | {ours[0]:.5f} | {ours[-1]:.5f} | {theirs[-1]:.5f} | "
            f"{max(abs(a - b) for a, b in zip(ours, theirs, strict=True)):.1e} |"
            for name, (ours, theirs) in table.items()
        ),
        "What differs by default, and why:\n\n"
        "* `sft` learns the assistant's turns only; trl's SFTTrainer learns all of a conversation, unless "
        "`assistant_only_loss` is set.\n"
        "* trl's DPO, KTO, CPO and ORPO also learn what a template puts after the end token (ChatML's line break); "
        "ours end where generation ends. The comparison gives both the same tokens.\n"
        "* `cpo` and `orpo` take the mean of each chosen answer's tokens (`objective.nll=pair`), so that accumulation "
        "changes nothing; `batch` is trl's mean over the micro-batch, in ORPO over the prompts' tokens too.\n"
        "* `kto` exchanges answers within blocks of `objective.block` rows of the file; trl does it within batches of "
        "its order.\n"
        "* `dpo` with `objective.label_smoothing` is cDPO; trl's `sigmoid` takes no notice of its "
        "`label_smoothing`, its `robust` does.\n"
        "* `simpo` is trl's CPOTrainer with `loss_type=simpo` and `cpo_alpha=0`.",
    ]
    return "\n\n".join(lines) + "\n"


RATE = 1e-5


def main() -> None:
    """Print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="one case", choices=CASES)
    chosen: str | None = parser.parse_args().only
    hush()
    plan = core.plan.make_plan(core.configure(["model.dtype=float32"]))
    table = {name: compare(name, plan.facts.path, RATE) for name in ([chosen] if chosen else CASES)}
    for name, losses in table.items():
        print(name, json.dumps(losses))
    if not chosen:
        (HERE / "docs" / "parity.md").write_text(page(table), encoding="utf-8")


if __name__ == "__main__":
    main()
