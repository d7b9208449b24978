"""Ours beside trl: the same rows, batches and hyperparameters, in turns, each training in a fresh process.

Run: python benchmarks/beside_trl.py                           tables, and sections of docs/benchmarks.md
     python benchmarks/beside_trl.py --cases dpo --rows 64     one case, with more rows; the others' sections stay
     python benchmarks/beside_trl.py --tiny                    a random model, to see that it works
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from demo_rows import demo_rows
from one_training import MAX_LENGTH, RANK, Job, Taken
from page import PAGE, has_amx, machine, table, write_section

from core.api import UserError

HERE = Path(__file__).resolve().parent
TITLE = "Training beside trl"


@dataclass(frozen=True)
class Case:
    """What is compared.

    Attributes:
        name: What it is called on the command line.
        set: Of ``demo_rows``.
        rows: How many, unless told.
        job: What is trained.
        settings: Of trl; the first trains ours' batches.
        held: The one that the aims were set beside.
        faster: Times its speed that are aimed at, without and with AMX.
        memory: Share of its memory that is aimed at; 1 where none is.
    """

    name: str
    set: str
    rows: int
    job: Job
    settings: Sequence[str]
    held: str
    faster: tuple[float, float]
    memory: float = 1.0

    @property
    def unit(self) -> str:
        """Of its speed."""
        return "pairs/min" if self.job.objective == "dpo" else "tokens/s"

    def speed(self, taken: Taken) -> float:
        """Over the steps after the first, if there are any; the reference's share of time included."""
        steps = len(taken.seconds)
        first = min(1, steps - 1)
        seconds = sum(taken.seconds[first:])
        if self.job.objective == "dpo":
            ahead = taken.ahead * (steps - first) / steps
            return 60 * self.job.batch * (steps - first) / (seconds + ahead)
        return sum(taken.tokens[first:]) / seconds


_SFT = Job("ours", "", "", "sft", "lora", "none", 8, "bfloat16")
_PACKED = ("plain", "packing")
CASES = {
    case.name: case
    for case in (
        Case(
            "sft",
            "alpaca_en_demo",
            48,
            _SFT,
            (*_PACKED, "padding-free", "packing-8"),
            "packing-8",
            (3.3, 4.0),
            0.35,
        ),
        Case("sft-int4", "alpaca_en_demo", 32, replace(_SFT, quant="int4"), _PACKED, "plain", (3.0, 3.0)),
        Case("full", "alpaca_en_demo", 32, replace(_SFT, method="full"), _PACKED, "plain", (2.0, 2.0)),
        Case("dpo", "dpo_en_demo", 32, replace(_SFT, objective="dpo", batch=4), ("plain",), "plain", (3.0, 3.0)),
    )
}
"""Small by default, for trl does about 70 tokens a second on two cores; ``--rows`` takes more."""


@dataclass
class Found:
    """What a case's processes gave: for each runner (``ours``, ``trl plain``, ...) its repeats."""

    taken: Mapping[str, list[Taken]]
    products: Sequence[float]


def measure(case: Case, job: Job, repeats: int) -> Found:
    """All runners in turns, so that a slow moment of the machine hits all."""
    runners = {"ours": job} | {f"trl {s}": replace(job, who="trl", setting=s) for s in case.settings}
    taken: dict[str, list[Taken]] = {name: [] for name in runners}
    products: list[float] = []
    for repeat in range(repeats):
        for name, one in runners.items():
            taken[name].append(Taken(**_process("one_training.py", one)))
            last = taken[name][-1]
            said = f"{case.speed(last):7.1f} {case.unit}, {last.memory / 1e9:.2f} GB"
            print(f"{case.name} {repeat + 1}/{repeats}  {name:<17}{said}", file=sys.stderr, flush=True)
        products.append(_process("products.py", job))
    return Found(taken, products)


def _process(script: str, job: Job) -> Any:
    words = [sys.executable, str(HERE / script), json.dumps(asdict(job))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603  # our own words
    if done.returncode:
        raise RuntimeError(f"{script} {words[-1]}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def runners(case: Case, found: Found) -> str:
    """The first table: who took what."""
    rows = [
        [
            name,
            f"{_spread([case.speed(one) for one in taken], '.1f')} {case.unit}",
            f"{_spread([one.memory / 1e9 for one in taken], '.2f')} GB",
            f"{mean(taken[0].losses):.4f}",
            f"{len(taken[0].losses)}",
        ]
        for name, taken in found.taken.items()
    ]
    return table(["who", "speed", "memory", "mean loss", "steps"], rows)


def verdicts(case: Case, found: Found) -> str:
    """The second table: ours beside each setting of trl, the fastest first."""
    speeds = {name: median(case.speed(one) for one in taken) for name, taken in found.taken.items()}
    memory = {name: median(one.memory for one in taken) for name, taken in found.taken.items()}
    wanted = case.faster[has_amx()]
    rows: list[list[str]] = []
    for name in sorted(speeds.keys() - {"ours"}, key=lambda name: -speeds[name]):
        held = name == f"trl {case.held}"
        faster, share = speeds["ours"] / speeds[name], memory["ours"] / memory[name]
        speed = f" ({_met(faster >= wanted, f'{wanted:g}')})" if held else ""
        room = f" ({_met(share <= case.memory, f'{case.memory:g}')})" if held and case.memory < 1 else ""
        rows.append([name, f"{faster:.2f}{speed}", f"{share:.2f}{room}"])
    return table(["beside, fastest first", "ours is so many times as fast", "takes this share of its memory"], rows)


def step(found: Found) -> str:
    """A line on our step."""
    seconds = median(mean(one.seconds[1:]) + one.ahead / len(one.seconds) for one in found.taken["ours"])
    return (
        f"Largest difference between our loss of a step and trl's: {gap(found):.1e}. Share of the limit: "
        f"{median(found.products) / seconds:.0%}."
    )


def gap(found: Found) -> float:
    """Largest difference between the losses of a step, ours and trl's on the same batches."""
    pairs = zip(found.taken["ours"][0].losses, found.taken["trl plain"][0].losses, strict=True)
    return max(abs(a - b) for a, b in pairs)


def _spread(values: Sequence[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _met(yes: bool, wanted: str) -> str:
    return f"aim {wanted}: {'met' if yes else 'not met'}"


def section(case: Case, found: Found, job: Job, rows: int, tiny: bool) -> str:
    """Text of a case's section."""
    what = "pairs" if case.job.objective == "dpo" else "rows"
    of = "made-up sums, with a random model" if tiny else case.set
    repeats = f"{len(found.products)} repeat" + "s" * (len(found.products) > 1)
    said = (
        f"{rows} {what} of {of} in batches of {job.batch}, {_trained(job)}; {repeats} in turns, each a fresh "
        "process; medians, and smallest to largest."
    )
    return "\n\n".join([machine(), said, runners(case, found), verdicts(case, found), step(found)])


def _trained(job: Job) -> str:
    lora = f"LoRA of rank {RANK} on all linear layers"
    base = f" over NF4 with double quantization, computed in {job.dtype}" if job.quant == "int4" else ""
    return f"{'all weights' if job.method == 'full' else lora}{base}, products in {job.dtype}"


NOTES = f"""\
A section for each case follows: `python benchmarks/beside_trl.py`, or some of them with `--cases`.

* Both sides train the same token ids in the same batches (at most {MAX_LENGTH} tokens a row) with the same constant
  rate, clipping and AdamW. Speeds are over all steps but the first: real tokens, padding left out. Memory is the most
  that the whole process held resident.
* trl trains without checkpointing. `plain` pads its batches; `padding-free` has them in one row; `packing` fills rows
  of {MAX_LENGTH} tokens, so many a step as hold about the tokens of a batch, `packing-8` eight a step, the number that
  the others have of examples: other batches, so the losses of neither are compared. DPOTrainer has none of them.
* An aim stands at the setting that it was set beside: `packing-8`, the fastest then measured, or `plain`. Settings that
  were found to be faster since have no aim; ours beside the fastest of them is the first line of its table.
* The losses differ by the rounding of half precision, in which the two compute in different orders; in float32 they
  agree to 1e-4, with LoRA too, on other rows (docs/parity.md).
* Speeds of `dpo` contain the reference: ours computes it ahead, in trl it is part of a step.
* The share of the limit is the time of the matrix products of the linear layers and of the output layer alone, executed
  one after the other in the same run, over the time of our step; those of `dpo` have each pair's prompt twice, as trl
  has it and ours has not."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="some of the cases")
    parser.add_argument("--rows", type=int, help="rows or pairs of each case")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="a random model and few rows, in float32")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the section is written")
    chosen = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            _compare(chosen, Path(folder))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def _compare(chosen: argparse.Namespace, folder: Path) -> None:
    numbers = {name: chosen.rows or (16 if chosen.tiny else CASES[name].rows) for name in chosen.cases}
    jobs = {name: _job(CASES[name], number, folder, chosen.tiny) for name, number in numbers.items()}
    write_section(chosen.page, TITLE, NOTES)
    for name, job in jobs.items():  # written after each, for all of them take long
        case = CASES[name]
        text = section(case, measure(case, job, chosen.repeats), job, numbers[name], chosen.tiny)
        write_section(chosen.page, f"{TITLE}: {name}", text)
        print(f"{name}\n\n{text}\n")


def _job(case: Case, number: int, folder: Path, tiny: bool) -> Job:
    file = folder / f"{case.name}.jsonl"
    if tiny:
        from core.testing import tiny as small

        rows: list[Any] = small.rows_with(("chosen", "rejected") if case.job.objective == "dpo" else ("completion",))
        model, dtype = small.write_model(folder / "tiny"), "float32"
    else:
        import core
        from core.plan import make_plan

        rows = json.loads(demo_rows(case.set).read_text(encoding="utf-8"))
        model, dtype = make_plan(core.configure([])).facts.path, "bfloat16"
    job = replace(case.job, rows=str(file), model=str(model), dtype=dtype)
    _write(file, rows)
    rows = [rows[at] for at in _usable(job)]
    if number > len(rows):
        raise UserError(f"--rows {number}: {case.set} has {len(rows)}", f"--rows {len(rows)}")
    _write(file, rows[:number])
    return job


def _write(file: Path, rows: Sequence[Any]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _usable(job: Job) -> list[int]:
    """Rows that both sides can take: of a few conversations the prompt alone is too long."""
    import core
    from core import stages
    from core.plan import make_plan

    data = stages.read(make_plan(core.configure([*job.overrides, "data.on_bad_row=skip", "data.cache=false"])))
    return sorted(int(data.train.origins[at].rpartition(":")[2]) - 1 for at in range(len(data.train.rows)))


if __name__ == "__main__":
    main()
