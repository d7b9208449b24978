"""``sweep resume``: what of a sweep is missing, failed or was stopped, run now."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeGuard

import core
from core.compose import composed
from core.errors import UserError
from core.overrides import quoted
from core.run_files import checkpoint_of, read_status, saved
from core.runfolder import check_unheld
from core.sweep_job import note, run_job
from core.sweep_report import close
from core.sweep_table import Job, SweepTable

USAGE = "python -m core sweep resume sweeps/2026-11-25_04-50-11_method"


def sweep_verb(argv: Sequence[str]) -> int:
    """Do what was typed behind ``sweep``.

    Raises:
        UserError: it is not ``resume`` and a sweep's folder.
    """
    if len(argv) != 2 or argv[0] != "resume":
        raise UserError("sweep takes resume and the folder of a sweep; -m starts one", USAGE)
    return resume(Path(argv[1]))


def resume(folder: Path) -> int:
    """Run all jobs that are not done and were not refused.

    Returns:
        0 when all are done, 1 when one failed or is refused.

    Raises:
        UserError: it is no sweep's folder, its jobs were chosen by a sweeper as it went, or they are running.
    """
    table = SweepTable(folder.expanduser().absolute())
    said = _said(table)
    with table.alone():
        return _resume(table, said)


def _resume(table: SweepTable, said: Mapping[str, Any]) -> int:
    missing = table.missing(table.jobs())
    missing.sort(key=lambda number: _partial(table.folder, number).exists())  # what killed its process comes last
    for number in missing:  # those of a cluster go on when what started them is gone
        check_unheld(table.folder / str(number))
    began = Path(said["folder"])  # paths may be relative to it
    print(f"{len(said['jobs'])} jobs, {len(missing)} to run", flush=True)
    try:
        with chdir(began) if began.is_dir() else nullcontext():
            for number in missing:
                _run(table, number, said["jobs"][number])
    finally:
        found = close(table)
    return 0 if len(found) == len(said["jobs"]) and all(job.state == "done" for job in found) else 1


def _said(table: SweepTable) -> dict[str, Any]:
    try:
        said = json.loads(table.plan.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{table.folder} is not the folder of a sweep", USAGE) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{table.plan} cannot be read: {error}", "start the sweep anew") from None
    if not _is_plan(said):
        raise UserError(f"{table.plan} is not what a sweep wrote", "start the sweep anew")
    if not said["jobs"]:
        raise UserError(f"{table.folder}: a sweeper chose its jobs as it went", "start the sweep anew")
    return said


def _is_plan(said: Any) -> TypeGuard[dict[str, Any]]:
    """Whether it names a folder and, for each job, what was typed."""
    try:
        typed = [word for job in said["jobs"] for word in job]
        return all(isinstance(word, str) for word in (said["folder"], *typed))
    except (KeyError, TypeError):
        return False


def _run(table: SweepTable, number: int, typed: Sequence[str]) -> None:
    folder = table.folder / str(number)
    typed = [word for word in typed if not word.lstrip("+").startswith("run.dir=")]  # that is the sweep's folder
    job = Job(number, " ".join(typed), "stopped")
    print(f"\njob {number}: {job.overrides}", flush=True)
    if _done(folder):  # somebody went on with the run itself
        note(job, core.load_run(str(folder)))
        table.add(job)
        return
    left = next((one for one in (folder, _partial(table.folder, number)) if one.exists()), None)
    goes_on = left is not None and checkpoint_of(left).exists() and not saved(left)
    if left is not None and not goes_on:
        left.rename(_free(folder))
    try:
        config = composed([*typed, f"run.dir={quoted(folder)}"])
        run_job(config, job, folder if goes_on else None)
    except UserError as error:  # a plugin is gone, say: the others run
        job.state = "failed"
        print(error, file=sys.stderr)
    finally:
        table.add(job)


def _done(folder: Path) -> bool:
    with suppress(UserError):
        return read_status(folder)["state"] == "done"
    return False


def _partial(sweep: Path, number: int) -> Path:
    """Where a job is while it runs; still there when its process was killed."""
    return sweep / f".{number}.partial"


def _free(folder: Path) -> Path:
    """Where what an earlier attempt left is put: nothing is lost."""
    number = 1
    while folder.with_name(f"{folder.name}.before-{number}").exists():
        number += 1
    return folder.with_name(f"{folder.name}.before-{number}")
