"""Trains every combination of our own parts that their words allow, and writes down which were: core/tested.json.

Run: python benchmarks/compatibility.py                  all of them, and docs/compatibility.md
     python benchmarks/compatibility.py --loader unsloth --print    one loader's, as lines of JSON
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from page import PACKAGES, cores

from core import verdicts
from core.capabilities import problems, words
from core.compose import configure
from core.discovery import discover
from core.loading import import_first
from core.registry import Offer

STEPS = 2


def allowed(loader: str | None = None) -> list[dict[str, Offer]]:
    """Combinations that nothing speaks against, of one loader or of all."""
    found = [offers for offers in verdicts.combined(discover()) if not any(problems(offers, words()))]
    return [offers for offers in found if loader in (None, offers["loader"].part.name)]


def trained(combinations: list[dict[str, Offer]], folder: Path) -> Iterator[dict[str, Any]]:
    """Train each for a few steps on a random model: its names, and the losses or what went wrong."""
    import_first(combinations[0].values())
    import core
    from core.testing import tiny

    model = tiny.write_model(folder / "tiny")
    for number, offers in enumerate(combinations):
        names = [offers[axis].part.name for axis in verdicts.AXES]
        try:
            typed = [f"{axis}={name}" for axis, name in zip(verdicts.AXES, names, strict=True)]
            result = core.train(configure([*typed, *_run(offers, model, folder / str(number))]))
            losses = [line["loss"] for line in result.metrics if line["split"] == "train"]
            wrong = "" if len(losses) == STEPS and None not in losses else f"losses {losses}"
        except Exception as error:
            losses, wrong = [], f"{type(error).__name__}: {error}"
        yield {"names": names, "losses": losses, "wrong": wrong}


def _run(offers: Mapping[str, Offer], model: Path, folder: Path) -> list[str]:
    """Rows that the objective can take, and few steps."""
    from importlib import import_module

    from core.testing import tiny

    module, _, name = offers["objective"].part.target.partition(":")
    folder.mkdir()
    rows = tiny.write_rows(folder / "rows.jsonl", tiny.rows_with(getattr(import_module(module), name).columns))
    return [
        f"model.path={model}", "data=jsonl", f"data.train={rows}", "data.max_length=64", "data.batch_size=4",
        f"trainer.max_steps={STEPS}", "metric=none", f"run.dir={folder}/run",
    ]  # fmt: skip


def child(loader: str) -> list[dict[str, Any]]:
    """The same in a process of its own: a loader may alter libraries for all who come after."""
    words = [sys.executable, __file__, "--loader", loader, "--print"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603  # our own words
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"names"')]
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    return found


def main() -> None:
    """Train, write, and say what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loader", help="one loader's combinations")
    parser.add_argument("--print", action="store_true", help="print lines of JSON and write nothing")
    chosen = parser.parse_args()
    loaders = sorted({offers["loader"].part.name for offers in allowed(chosen.loader)})
    if chosen.print:
        with tempfile.TemporaryDirectory() as folder:
            for found in trained(allowed(chosen.loader), Path(folder)):
                print(json.dumps(found), flush=True)
        return
    found = [one for loader in loaders for one in child(loader)]
    wrong = [one for one in found if one["wrong"]]
    for one in wrong:
        print(" ".join(one["names"]), one["wrong"], file=sys.stderr)
    _write([one["names"] for one in found if not one["wrong"]])
    print(f"{len(found) - len(wrong)} of {len(found)} combinations trained")
    sys.exit(1 if wrong else 0)


def _write(names: list[list[str]]) -> None:
    said = {
        "made": date.today().isoformat(),
        "machine": f"{cores()} cores, no GPU" if "cuda" not in words() else f"{cores()} cores and a GPU",
        "packages": {package: version(package) for package in (*PACKAGES, "unsloth")},
        "axes": list(verdicts.AXES),
        "tested": sorted(names),
    }
    lines = json.dumps({**said, "tested": []}, indent=1)
    rows = ",\n".join(f"  {json.dumps(one)}" for one in said["tested"])
    verdicts.FILE.write_text(lines.replace('"tested": []', f'"tested": [\n{rows}\n ]') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
