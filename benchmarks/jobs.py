"""How long the jobs of a sweep take until they train: from a job's first line to the beginning of its first step.

Run: python benchmarks/jobs.py          a table, and a section of docs/sweeps.md
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from page import machine, table, write_section

PAGE = Path(__file__).resolve().parent.parent / "docs" / "sweeps.md"
TITLE = "Until a job trains"
TYPED = ["method=lora,full", "quant=none,int4", "seed=0,1", "metric=none", "trainer.max_steps=1"]

AIM = 2.0
"""Seconds, of all jobs but the first."""


def waits(folder: Path) -> list[tuple[str, float]]:
    """What each job was typed as, and seconds until its first step began.

    Args:
        folder: Where the sweep goes.
    """
    words = [sys.executable, "-m", "core", "-m", *TYPED, f"run.dir={folder}"]
    began: dict[int, tuple[str, float]] = {}
    trains: dict[int, float] = {}
    job = 0
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  # our own words
        assert process.stdout is not None
        for line in process.stdout:
            now = time.perf_counter()
            if found := re.match(r"job (\d+): (.*)", line):
                job = int(found[1])
                began[job] = found[2], now
            elif re.match(r"  step +1/1 ", line):
                trains[job] = now
    steps = {at: json.loads((folder / str(at) / "metrics.jsonl").read_text().splitlines()[0]) for at in trains}
    return [(began[at][0], trains[at] - began[at][1] - steps[at]["seconds"]) for at in sorted(trains)]


def main() -> None:
    """Run a sweep, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=PAGE, help="where the section is written")
    page: Path = parser.parse_args().page
    with tempfile.TemporaryDirectory() as folder:
        found = waits(Path(folder) / "sweep")
    short = [" ".join(word for word in typed.split() if word.partition("=")[0] in ("method", "quant", "seed"))
             for typed, _ in found]  # fmt: skip
    lines = [[what, f"{seconds:.1f} s"] for what, (_, seconds) in zip(short, found, strict=True)]
    later = [seconds for _, seconds in found[1:]]
    met = "met" if max(later) <= AIM else "not met"
    text = "\n\n".join(
        [
            machine(),
            f"`python -m core -m {' '.join(TYPED)}`: from the line that names a job to the beginning of its first "
            "step. The first one also starts torch, for all.",
            table(["job", "until it trains"], lines),
            f"Later jobs: {min(later):.1f} to {max(later):.1f} s (aim {AIM:g} s: {met}).",
        ]
    )
    print(text)
    write_section(page, TITLE, text)


if __name__ == "__main__":
    main()
