"""``compare``: what runs were made of that differs, what they measured, and whether that is more than chance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import yaml

from core.errors import UserError, shortened
from core.paired import difference
from core.result import Result
from core.run_files import read_lock, read_status

USAGE = "python -m core compare RUN RUN ..."
NEVER = frozenset({"run.dir"})
"""What differs between any two runs."""


def compare(argv: Sequence[str]) -> int:
    """Do what was typed behind ``compare``.

    Raises:
        UserError: there are not two runs, or one is none.
    """
    if len(argv) < 2 or any(word.startswith("-") for word in argv):
        raise UserError("compare takes two run folders or more", USAGE)
    runs = [_run(Path(word).expanduser()) for word in argv]
    _show(runs)
    return 0


def _run(folder: Path) -> Result:
    read_status(folder)
    read_lock(folder)
    return Result(folder.absolute())


def _show(runs: Sequence[Result]) -> None:
    from rich.console import Console
    from rich.table import Table

    from core.screen import console

    screen: Console = console()
    table = Table("", *(_name(runs, run) for run in runs), show_edge=False, pad_edge=False)
    for key, values in differing([made_of(run) for run in runs]):
        table.add_row(key, *values)
    table.add_section()
    for key, values in measured(runs):
        table.add_row(key, *values)
    screen.print(table, markup=False)
    for line in paired_lines(runs):
        screen.print(line, markup=False, soft_wrap=True)


def _name(runs: Sequence[Result], run: Result) -> str:
    """The folder's own name, with its parent's where that is the same twice."""
    same = [other for other in runs if other.folder.name == run.folder.name]
    return run.folder.name if len(same) == 1 else f"{run.folder.parent.name}/{run.folder.name}"


def made_of(run: Result) -> dict[str, str]:
    """All that could make it differ from another: options, parts, packages, machine, hashes of model and rows."""
    lock = run.lock
    found: dict[str, str] = {}
    for part in lock["parts"]:
        ours = part["distribution"] == "hooktune"
        found[part["kind"]] = part["name"] + ("" if ours else f" ({part['distribution']} {part['version']})")
    found |= _flat(_config(run.folder / "config.yaml"))
    found |= {f"package {name}": str(version) for name, version in lock["packages"].items()}
    found |= {"python": lock["python"], "cpu": lock["machine"]["cpu"], "gpus": ", ".join(lock["machine"]["gpus"])}
    found |= {f"{side} rows": digest[:12] for side, digest in lock["data"]["rows"].items()}
    files = " ".join(sorted(lock["model"]["sha256"].values()))
    return found | {"weights": hashlib.sha256(files.encode()).hexdigest()[:12], "state": run.status["state"]}


def _config(file: Path) -> Mapping[str, Any]:
    """All values of a run; nothing where the file is gone."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        what = shortened(" ".join(str(error).split()))
        raise UserError(f"{file} cannot be read: {what}", f"leave {file.parent} out") from error
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in tree.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{key}.")
        elif key not in NEVER and name != "name":  # parts say theirs
            found[key] = "null" if value is None else str(value)
    return found


def differing(runs: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """What is not the same in all of them; a dash where one has no such thing.

    Example:
        >>> list(differing([{"seed": "0", "method": "lora", "method.rank": "8"}, {"seed": "0", "method": "full"}]))
        [('method', ['lora', 'full']), ('method.rank', ['8', '-'])]
    """
    for key in dict.fromkeys(key for run in runs for key in run):
        values = [run.get(key, "-") for run in runs]
        if any(a != b for a, b in pairwise(values)):
            yield key, values


def measured(runs: Sequence[Result]) -> Iterator[tuple[str, list[str]]]:
    """The metric before and after, last losses, time and memory."""
    for when in ("before", "after"):
        scores = [run.before if when == "before" else run.after for run in runs]
        if any(scores):
            yield when, ["-" if score is None else _score(score) for score in scores]
    yield "loss", [_last_loss(run) for run in runs]
    yield "seconds", [str(run.status["seconds"] or "-") for run in runs]  # one that was killed has none
    for key in ("peak_memory", "predicted_memory"):
        yield key, [_gigabytes(run.status.get(key)) for run in runs]


def _score(score: Any) -> str:
    ends = " to ".join(map(score.shown, (score.low, score.high)))
    return f"{score.name} {score.shown(score.value)} ({ends}, n={score.n})"


def _last_loss(run: Result) -> str:
    """The mean of the last tenth of the steps, whose single ones scatter."""
    losses = [line["loss"] for line in run.metrics if line["split"] == "train" and line["loss"] is not None]
    last = losses[-max(1, len(losses) // 10) :]
    return f"{sum(last) / len(last):.4f}" if last else "-"


def _gigabytes(number: int | None) -> str:
    return "-" if number is None else f"{number / 1e9:.2f} GB"


def paired_lines(runs: Sequence[Result]) -> Iterator[str]:
    """Each run against the first, where both measured the same rows."""
    first = runs[0]
    for run in runs[1:]:
        a, b = first.after, run.after
        if a is None or b is None:
            continue
        name = f"{_name(runs, run)} against {_name(runs, first)}"
        if why := _not_paired(first, run):
            yield f"{name}: {why}, so no test"
            continue
        found = difference(a.of_rows, b.of_rows)
        yield (
            f"{name}: {b.name} {found.mean:+.4g} ({found.low:+.4g} to {found.high:+.4g}) on the same {a.n} rows, "
            f"p = {found.p:.2g} (paired permutation test)"
        )


def _objective(run: Result) -> str:
    return next(part["name"] for part in run.lock["parts"] if part["kind"] == "objective")


def _not_paired(one: Result, other: Result) -> str:
    """Why two runs cannot be tested row by row; empty where they can."""
    a, b = one.after, other.after
    assert a is not None, "asked before"
    assert b is not None, "asked before"
    if a.name != b.name:
        return f"they measured {a.name} and {b.name}"
    if a.name == "loss" and (names := [_objective(run) for run in (one, other)])[0] != names[1]:
        return f"they measured the loss of {' and of '.join(names)}"
    if one.lock["data"]["rows"]["validation"] != other.lock["data"]["rows"]["validation"] or a.n != b.n:
        return "they measured other rows"
    if not len(a.of_rows) == len(b.of_rows) == a.n:
        return f"{a.name} says nothing of single rows"
    return ""
