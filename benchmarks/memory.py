"""Memory as ``plan`` predicts it beside what a run then held at its peak.

Run: python benchmarks/memory.py          a table, and a section of docs/plan.md
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

from demo_rows import demo_rows
from page import machine, table, write_section

PAGE = Path(__file__).resolve().parent.parent / "docs" / "plan.md"
TITLE = "Predicted and measured"
AGAIN = "trainer.gradient_checkpointing=true"
WHAT = [
    ("full", "none"), ("lora", "none"), ("lora", "int8"), ("lora", "int4"), ("adapters", "none"), ("adapters", "int8"),
    ("adapters", "int4"), ("full", "none", AGAIN), ("lora", "int4", AGAIN),
]  # fmt: skip
"""Methods and quantizers that can go together, and what else is asked for."""

WITHIN = 0.2
"""How far a prediction may be from what is measured."""

BATCHES, LENGTHS, STEPS = (4, 8), (128, 512), 6


def overrides(what: tuple[str, ...], batch: int, length: int, rows: Path) -> list[str]:
    method, quant, *more = what
    return [
        *more, f"method={method}", f"quant={quant}", f"data.batch_size={batch}", f"data.max_length={length}",
        "data=jsonl", f"data.train={rows}", "data.holdout=0", "data.tolerance=1", "metric=none",
        f"trainer.max_steps={STEPS}",
    ]  # fmt: skip


def core(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "core", *words], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def main() -> int:
    """Predict, train some steps, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=PAGE, help="where the section is written")
    page: Path = parser.parse_args().page
    lines: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        every = json.loads(demo_rows("alpaca_en_demo").read_text(encoding="utf-8"))
        rows = {batch: Path(folder) / f"rows-{batch}.jsonl" for batch in BATCHES}
        for batch, file in rows.items():  # as many as are trained on: the largest micro-batch is one of them
            file.write_text("".join(json.dumps(row) + "\n" for row in every[: STEPS * batch]), encoding="utf-8")
        for what, batch, length in product(WHAT, BATCHES, LENGTHS):
            typed = overrides(what, batch, length, rows[batch])
            predicted = json.loads(core("plan", *typed, "--json"))
            run = Path(folder) / "-".join(map(str, (*what, batch, length)))
            core(*typed, f"run.dir={run}")
            measured = json.loads((run / "status.json").read_text())["peak_memory"]
            total = predicted["memory"]["total"]
            lines.append(
                [*what[:2], "blocks again" if what[2:] else "", str(batch), str(length),
                 f"{predicted['steps']['tokens']:,}", f"{total / 1e9:.2f} GB", f"{measured / 1e9:.2f} GB",
                 f"{total / measured:.2f}"]
            )  # fmt: skip
            print(*lines[-1], file=sys.stderr, flush=True)
    ratios = [float(line[-1]) for line in lines]
    met = all(abs(ratio - 1) <= WITHIN for ratio in ratios)
    text = "\n\n".join(
        [
            machine(),
            f"SmolLM2-135M in bfloat16, {STEPS} steps on rows of alpaca_en_demo; resident memory above what the "
            "process held before the model was loaded. Tokens are those of the largest micro-batch.",
            table(
                ["method", "quant", "", "batch_size", "max_length", "tokens", "predicted", "measured", "ratio"], lines
            ),
            f"Ratios from {min(ratios):.2f} to {max(ratios):.2f}: within {WITHIN:.0%} {'met' if met else 'not met'}. "
            f"*Blocks again* is `{AGAIN}`.",
        ]
    )
    print(text)
    write_section(page, TITLE, text)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
