"""``plan --probe``: a step of the real run, to see how long it takes and what it holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from core.errors import ERROR, UserError
from core.plan_screen import gigabytes

if TYPE_CHECKING:
    from core.planned import Planned

STEPS = 2
"""The first chooses kernels and allocates memory; the second is the one that is timed."""

KILLED = -9
SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "memoryerror")
"""What torch, the system and Python say when there is no more."""


def probe(overrides: Sequence[str]) -> dict[str, Any]:
    """Train in a process and a folder that are thrown away.

    Returns:
        Seconds and tokens of a step, bytes at the peak.

    Raises:
        UserError: it ran out of memory, or the run failed with an error of its own.
    """
    with TemporaryDirectory(prefix="hooktune-") as scratch:
        run = Path(scratch) / "run"
        own = [f"trainer.max_steps={STEPS}", "metric=none", f"run.dir={run}"]
        dropped = {"trainer.max_steps", "trainer.max_epochs", "trainer.max_time", "metric", "run.dir"}
        kept = [line for line in overrides if _key(line) not in dropped and not _key(line).startswith("metric.")]
        command = [sys.executable, "-m", "core", *kept, *own]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # what was typed
        if done.returncode:
            raise _failed(done.returncode, done.stderr)
        status = json.loads((run / "status.json").read_text(encoding="utf-8"))
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    last = [line for line in lines if line["split"] == "train"][-1]
    return {"seconds": last["seconds"], "tokens": last["tokens"], "peak_memory": status["peak_memory"]}


def _key(line: str) -> str:
    return line.lstrip("+~").partition("=")[0]


def _failed(code: int, said: str) -> UserError:
    if code == KILLED or any(sign in said.lower() for sign in SIGNS):
        return UserError("the probe ran out of memory", "python -m core plan --fit=SIZE with the same overrides")
    what = [line for line in said.splitlines() if line.strip()] or [f"it ended with exit code {code}"]
    first = what[0 if code == 2 else -1].removeprefix(ERROR)
    return UserError(f"the probe failed: {first}", "python -m core with the same overrides says all of it")


def lines(found: Mapping[str, Any], planned: Planned) -> Iterator[str]:
    """What it took, beside what was predicted."""
    from core.screen import clock

    seconds, peak, total = found["seconds"], found["peak_memory"], planned.memory["total"]
    whole = f"; {planned.steps['steps']:,} take about {clock(seconds * planned.steps['steps'])}"
    yield f"probe   {seconds:.2f} s a step, {found['tokens'] / seconds:,.0f} tokens/s{whole}"
    yield f"        {gigabytes(peak)} at the peak, {peak / total:.2f} of what is predicted for the largest micro-batch"
