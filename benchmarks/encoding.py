"""Rows to tokens: ours beside ``datasets.map`` with the same tokenizer and template, on all cores of this machine.

Run: python benchmarks/encoding.py                      a table, and a section of docs/benchmarks.md
     python benchmarks/encoding.py --rows 50000         a minute instead of eight
     python benchmarks/encoding.py --tiny               seconds, to see that it works
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from demo_rows import demo_rows
from page import PAGE, cores, machine, table, write_section

from core.api import UserError

TITLE = "Encoding"
ROWS = 1_000_000
BESIDE = 100_000
"""Rows from which on ``datasets.map`` gets no more: its speed does not depend on them."""

ALLOWED = 1.5e9
"""Bytes that one process may hold."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--tiny", action="store_true", help="64 rows and a tokenizer made for them")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the section is written")
    parser.add_argument(
        "--one", choices=("ours", "map"), help=argparse.SUPPRESS
    )  # what a process of ours is started for
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps({"ours": ours, "map": mapped}[chosen.one](chosen.file, chosen.model)))
        return
    try:
        text = compare(chosen.rows, chosen.tiny)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(text)
    write_section(chosen.page, TITLE, text)


def compare(number: int, tiny: bool) -> str:
    """Text of the page's section."""
    with tempfile.TemporaryDirectory() as folder:
        file, fewer = Path(folder) / "rows.jsonl", Path(folder) / "fewer.jsonl"
        model = prepare(file, fewer, number, tiny)
        found = {
            "ours, first run": _process("ours", file, model),
            "ours, second run": _process("ours", file, model),
            f"datasets.map(num_proc={cores()})": _process("map", fewer, model),
        }
    first, _, other = found.values()
    most = max(one["memory"] for name, one in found.items() if name.startswith("ours"))
    made = "sums in words" if tiny else "instructions of alpaca_en_demo, the sentences of each answer shuffled"
    lines = [
        [
            name,
            f"{one['seconds']:.1f}",
            f"{one['rows'] / one['seconds']:,.0f}",
            f"{one['tokens'] / one['seconds']:,.0f}",
            f"{one['memory'] / 1e9:.2f} GB",
        ]
        for name, one in found.items()
    ]
    return "\n\n".join(
        [
            machine(),
            f"{first['rows']:,} rows of prompt and completion: {made}; {first['tokens'] / first['rows']:.0f} tokens a "
            f"row, {first['bytes'] / 1e6:,.0f} MB of JSON. Ours reads, checks and encodes them, looks for duplicates "
            "and leaks and keeps the result; the second run finds it there. `datasets.map` gets "
            f"{other['rows']:,} rows and does for each what trl does: the template for the prompt, the template for "
            "all, and a mask. Starting other processes is in the time of both. Memory is the most that the "
            "largest of the processes held resident, mapped files included.",
            table(["", "seconds", "rows/s", "tokens/s", "memory"], lines),
            f"Ours does {lines[0][2]} rows/s where `datasets.map` does {lines[2][2]}. At most {ALLOWED / 1e9:g} GB in "
            f"each process: {'met' if most <= ALLOWED else 'not met'}.",
        ]
    )


def prepare(file: Path, fewer: Path, number: int, tiny: bool) -> str:
    """Write the rows, and say where the model is whose tokenizer encodes them."""
    if tiny:
        from core.testing import tiny as small

        for each in (file, fewer):
            small.write_rows(each, small.sums())
        return str(small.write_model(file.parent / "tiny"))
    import core
    from core.plan import make_plan

    write_rows(file, number)
    write_rows(fewer, min(number, BESIDE))
    return str(make_plan(core.configure([])).facts.path)


def write_rows(file: Path, number: int) -> None:
    """As many rows as wanted, no two alike, of the lengths that instructions have."""
    known = json.loads(demo_rows("alpaca_en_demo").read_text(encoding="utf-8"))
    chance = random.Random(0)  # noqa: S311  # nothing secret
    with file.open("w", encoding="utf-8") as stream:
        for i in range(number):
            row = known[i % len(known)]
            sentences = row["output"].split(". ")
            chance.shuffle(sentences)
            prompt = f"{i}. {row['instruction']} {row['input']}"
            stream.write(json.dumps({"prompt": prompt, "completion": ". ".join(sentences) or "None."}) + "\n")


def _process(one: str, file: Path, model: str) -> dict[str, Any]:
    words = [sys.executable, __file__, "--one", one, "--file", str(file), "--model", model]
    cache = str(file.parent / "cache")  # gone with the rows
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": cache, "HOOKTUNE_CACHE": cache}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def ours(file: Path, model: str) -> dict[str, Any]:
    """What a run does before it loads the model."""
    import core
    from core import stages
    from core.plan import make_plan
    from core.quiet import hush

    hush()
    plan = make_plan(core.configure([f"model.path={model}", "data=jsonl", f"data.train={file}", "data.tolerance=1"]))
    with largest() as memory:
        start = time.perf_counter()
        data = stages.read(plan)
        seconds = time.perf_counter() - start
    sides = (data.train.facts, data.validation.facts)
    return _taken(file, seconds, sum(side.rows for side in sides), sum(side.tokens for side in sides), memory)


def mapped(file: Path, model: str) -> dict[str, Any]:
    """The same by hand."""
    from datasets import load_dataset
    from transformers import AutoTokenizer

    from core.quiet import hush

    hush()
    tokenizer: Any = AutoTokenizer.from_pretrained(model)

    def encode(row: Any) -> dict[str, Any]:
        prompt = [{"role": "user", "content": row["prompt"]}]
        answer = [{"role": "assistant", "content": row["completion"]}]
        before = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
        ids = tokenizer.apply_chat_template(prompt + answer, return_dict=True)["input_ids"]
        return {"input_ids": ids, "completion_mask": [0] * len(before) + [1] * (len(ids) - len(before))}

    with largest() as memory:
        start = time.perf_counter()
        rows: Any = load_dataset("json", data_files=str(file), split="train")
        found = rows.map(encode, remove_columns=rows.column_names, num_proc=cores())
        seconds = time.perf_counter() - start
    tokens = sum(len(ids) for batch in found.iter(1000) for ids in batch["input_ids"])
    return _taken(file, seconds, len(found), tokens, memory)


def _taken(file: Path, seconds: float, rows: int, tokens: int, memory: list[int]) -> dict[str, Any]:
    size = file.stat().st_size
    return {"seconds": seconds, "rows": rows, "tokens": tokens, "memory": memory[0], "bytes": size}


@contextmanager
def largest() -> Generator[list[int]]:
    """The most that this process or one that it started holds while inside, bytes: looked at ten times a second."""
    found, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            found[0] = max(found[0], *_held())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        found[0] = max(found[0], *_held())
        done.set()
        watcher.join()


def _held() -> Iterator[int]:
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        with suppress(psutil.Error):
            yield process.memory_info().rss


if __name__ == "__main__":
    main()
