"""One training, ours or trl's, in a process of its own: what it took is one line of JSON at the end of the output.

Run: by ``benchmarks/beside_trl.py``
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

MAX_LENGTH, RANK, ALPHA = 512, 16, 32
FULL_RATE, ADAPTER_RATE, PAIRS_RATE = 1e-5, 2e-4, 5e-6
SEED = 0


@dataclass(frozen=True)
class Job:
    """What is trained, and by whom.

    Attributes:
        who: ``ours`` or ``trl``.
        rows: File with the rows.
        model: Folder of the model.
        objective: ``sft`` or ``dpo``.
        method: ``lora`` or ``full``.
        quant: ``none`` or ``int4``.
        batch: Examples of a step.
        dtype: Of the base and of the products.
        setting: Of trl: ``plain``, ``padding-free``, ``packing`` (as many tokens a step) or ``packing-8`` (as many
            rows a step, now full ones).
    """

    who: str
    rows: str
    model: str
    objective: str
    method: str
    quant: str
    batch: int
    dtype: str
    setting: str = "plain"

    @property
    def rate(self) -> float:
        """The learning rate, constant."""
        return FULL_RATE if self.method == "full" else PAIRS_RATE if self.objective == "dpo" else ADAPTER_RATE

    @property
    def overrides(self) -> list[str]:
        """The same for ours."""
        lora = [f"method.rank={RANK}", f"method.alpha={ALPHA}"] if self.method == "lora" else []
        return [
            f"model.path={self.model}", f"model.dtype={self.dtype}", f"objective={self.objective}",
            f"method={self.method}", *lora, f"quant={self.quant}", "data=jsonl", f"data.train={self.rows}",
            "data.holdout=0", "data.tolerance=1", f"data.batch_size={self.batch}", f"data.max_length={MAX_LENGTH}",
            "metric=none", f"optim.lr={self.rate}", "optim.schedule=constant", "optim.warmup=0",
            "optim.weight_decay=0", "trainer.gradient_clip_val=1.0", "trainer.accelerator=cpu", f"seed={SEED}",
        ]  # fmt: skip


@dataclass
class Taken:
    """What it took.

    Attributes:
        losses: Of each step.
        seconds: Of each step.
        tokens: Real ones of each step, padding left out.
        ahead: Seconds for the reference's log-probabilities, where they are computed before the first step.
        memory: Most resident memory of the process, bytes.
    """

    losses: Sequence[float]
    seconds: Sequence[float]
    tokens: Sequence[int]
    ahead: float
    memory: int


def ours(job: Job, folder: Path) -> Taken:
    """``core.train``."""
    import core
    from core import stages

    ahead: list[float] = []
    reference = stages.reference

    def clocked(*args: Any, **_keep: bool) -> None:
        start = time.perf_counter()
        reference(*args)  # anew in each repeat: one that an earlier process kept would count as speed
        ahead.append(time.perf_counter() - start)

    stages.reference = clocked
    result = core.train(core.configure([*job.overrides, f"run.dir={folder}/run"]))
    steps = [line for line in result.metrics if line["split"] == "train"]
    return Taken(
        [step["loss"] for step in steps],
        [step["seconds"] for step in steps],
        [step["tokens"] for step in steps],
        ahead[0] if job.objective == "dpo" else 0.0,
        peak(),
    )


def trl(job: Job, folder: Path) -> Taken:
    """SFTTrainer or DPOTrainer, without checkpointing, in bfloat16 unless everything is float32."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl_side import classes, row, watched

    examples = our_examples(job)
    name = job.objective.upper()
    losses: list[float] = []
    tokens: list[int] = []
    times: list[float] = []

    def see(inputs: Any, loss: float) -> None:
        mask = inputs.get("attention_mask")
        tokens.append(int(inputs["input_ids"].numel() if mask is None else mask.sum()))
        losses.append(loss)

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    more: dict[str, Any] = {"completion_only_loss": True} if name == "SFT" else {}
    batch = job.batch
    if job.setting == "padding-free":
        more |= {"padding_free": True, "max_length": None}  # the rows are cut already
    if job.setting in ("packing", "packing-8"):
        more["packing"] = True
    if job.setting == "packing":  # about as many tokens a step as without
        total = sum(len(v) for example in examples for k, v in row(name, example).items() if k == "input_ids")
        batch = max(1, round(job.batch * total / len(examples) / MAX_LENGTH))
    half = job.dtype == "bfloat16"
    arguments = classes(name)[1](
        output_dir=str(folder / "trl"), per_device_train_batch_size=batch, num_train_epochs=1, learning_rate=job.rate,
        lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0, report_to="none", save_strategy="no",
        use_cpu=True, bf16=half, gradient_checkpointing=False, disable_tqdm=True, seed=SEED,
        logging_steps=10_000, **{"max_length": MAX_LENGTH, **more},
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(job.model, **weights(job))
    rows = Dataset.from_list([row(name, example) for example in examples])
    torch.manual_seed(SEED)  # the adapters start as ours do
    trainer = watched(name, see)(
        model=model,
        processing_class=AutoTokenizer.from_pretrained(job.model),
        train_dataset=rows,
        args=arguments,
        peft_config=adapter(job),
        callbacks=[Clock()],
    )
    trainer.train()
    seconds = [end - start for start, end in pairwise(times)]
    return Taken(losses, seconds, tokens, 0.0, peak())


def our_examples(job: Job) -> Sequence[Any]:
    """Ours in the order in which ours trains them."""
    import core
    from core import stages
    from core.micro_batches import order
    from core.plan import make_plan

    plan = make_plan(core.configure(job.overrides))
    examples = stages.read(plan).train.examples
    return [examples[i] for i in order(len(examples), SEED, 0)]


def weights(job: Job) -> dict[str, Any]:
    """How trl's model is held: frozen weights in the base's dtype, trained ones in float32, as ours are."""
    import torch
    from transformers import BitsAndBytesConfig

    dtype = getattr(torch, job.dtype)
    if job.quant == "int4":
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        return {"dtype": dtype, "quantization_config": config}
    return {"dtype": torch.float32 if job.method == "full" else dtype}


def adapter(job: Job) -> Any:
    """peft's config of the same adapter."""
    from peft import LoraConfig

    if job.method == "full":
        return None
    return LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


def peak() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Train as the first argument says, and print what it took."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from core.quiet import hush

    hush()
    job = Job(**json.loads(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        taken = {"ours": ours, "trl": trl}[job.who](job, Path(folder))
    print(json.dumps(asdict(taken)))


if __name__ == "__main__":
    main()
