"""LoRA and adapters, loaded by transformers and by Unsloth, on the default task: writes docs/loaders-and-methods.md.

Run: python benchmarks/loaders_and_methods.py          about twenty minutes on two cores
     python benchmarks/loaders_and_methods.py --tiny   seconds, without Unsloth, to see that it works
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from page import machine, table, write_section
from safetensors import safe_open

from core import configure
from core.plan import make_plan

PAGE = Path(__file__).resolve().parent.parent / "docs" / "loaders-and-methods.md"
SWEEP = ("-m", "method=lora,adapters", "loader=transformers,unsloth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a random model and few rows, in float32")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write a section of")
    chosen = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        typed = _tiny(folder) if chosen.tiny else []
        sweep = [*SWEEP[:2], "loader=transformers"] if chosen.tiny else [*SWEEP]
        command = [sys.executable, "-m", "core", *sweep, *typed, f"run.dir={folder / 'sweep'}"]
        subprocess.run(command, check=True)  # noqa: S603  # our own words
        whole = make_plan(configure(["method=lora", *typed])).facts.parameters
        runs = sorted((folder / "sweep").glob("*/config.yaml"), key=lambda file: int(file.parent.name))
        rows = [_row(file.parent, whole) for file in runs]
    text = f"{table(['method', 'loader', 'trained', 'before', 'after'], rows)}\n\n{machine()}"
    write_section(chosen.page, "Accuracy", text)
    print(text)


def _tiny(folder: Path) -> list[str]:
    from core.testing import tiny

    rows = tiny.write_rows(folder / "rows.jsonl", tiny.sums())
    model = tiny.write_model(folder / "tiny")
    return [
        f"model.path={model}", "model.dtype=float32", "data=jsonl", f"data.train={rows}", "data.holdout=0.2",
        "metric=exact", "trainer.max_steps=2", "trainer.accelerator=cpu",
    ]  # fmt: skip


def _row(run: Path, whole: int) -> Sequence[str]:
    """Of one job: its parts, what of the model it trained, and what was measured before and after."""
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    scores: Mapping[str, Any] = {line["split"]: line for line in lines if line["split"] in ("before", "after")}
    trained = sum(_numbers(file) for file in (run / "adapter").glob("*.safetensors"))
    return [
        f"`{config['method']['name']}`",
        f"`{config['loader']['name']}`",
        f"{trained:,} ({trained / whole:.1%})".replace("%", " %"),
        *(_percent(scores[split]) for split in ("before", "after")),
    ]


def _numbers(file: Path) -> int:
    with safe_open(file, "pt") as tensors:
        return sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118  # it is no mapping


def _percent(score: Mapping[str, float]) -> str:
    return f"{100 * score['value']:.1f} % ({100 * score['low']:.1f} to {100 * score['high']:.1f})"


if __name__ == "__main__":
    main()
