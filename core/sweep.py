"""Several runs from one command: every job checked before the first one starts, and a line for each at the end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from core import capabilities
from core.compose import Config, composed
from core.discovery import discover
from core.errors import UserError, shortened
from core.hydra_app import compose_tree, run_hydra, translate
from core.normalise import normalise
from core.overrides import disabled, parse, quoted
from core.plan_kept import plan_once
from core.plan_screen import gigabytes
from core.sweep_chooser import check_choosable, check_comparable
from core.sweep_extras import check_extras, chosen_as_it_goes
from core.sweep_job import patches
from core.sweep_report import close
from core.sweep_table import SweepTable
from core.sweep_task import Task
from core.trainer_options import TrainerOptions


def sweep(typed: Sequence[str]) -> int:
    """Run every combination, or those that another sweeper chooses.

    Returns:
        0 when all were done, 1 when one failed or was refused.

    Raises:
        UserError: a name, key or value of some job is wrong, or a package is missing; nothing was run.
    """
    check_extras(typed)
    without = disabled(parse(typed))
    registry = discover(without)
    lines = normalise(typed, registry, multirun=True)
    compose_tree([line for line in lines if _hydras(line)], registry)  # what is wrong in them is said now
    as_it_goes = chosen_as_it_goes(lines)
    jobs = [] if as_it_goes else combinations(lines)
    configs = [composed(job, registry) for job in (examples(lines) if as_it_goes else jobs)]
    for config in configs:
        _check_devices(config.trainer)
    if as_it_goes:
        check_choosable(lines, configs)
    check_comparable([config for config in configs if not _cannot_work(config)])
    table = SweepTable(_folder(lines))
    if not as_it_goes:
        _say_what_is_planned(configs)
    kept = [line for line in lines if not line.startswith("run.dir=")]
    own = [f"{key}={quoted(table.folder)}" for key in ("run.dir", "hydra.sweep.dir")]
    try:
        with table.alone():
            run_hydra(["-m", *kept, *own], registry, Task(table, jobs, without, registry))
    except UserError:
        raise
    except Exception as error:  # of a launcher or a sweeper: what goes wrong in a job stays in it
        raise _of_hydras(error, table, as_it_goes) from error
    finally:
        done = close(table)
    return 0 if len(done) >= max(len(jobs), 1) and all(job.state == "done" for job in done) else 1


def _of_hydras(error: Exception, table: SweepTable, as_it_goes: bool) -> UserError:
    """What a launcher or a sweeper could not do."""
    ran = table.jobs()
    if as_it_goes and ran and all(job.after is None for job in ran):
        return UserError(f"no job gave a value to choose by: {error}", "see what they printed above")
    what = f"the {'sweeper' if as_it_goes else 'launcher'} failed: {type(error).__name__}: {shortened(str(error), 300)}"
    again = f"python -m core sweep resume {shlex.quote(str(table.folder))}"
    kinds = "hydra.sweeper and the values to choose from" if as_it_goes else "hydra.launcher"
    return UserError(what, again if ran and not as_it_goes else f"mend what was typed for {kinds}")


def _say_what_is_planned(configs: Sequence[Config]) -> None:
    """Which jobs will be refused, and what the others need, before the first one starts.

    Raises:
        UserError: one of the others could not begin.
    """
    refused = [number for number, config in enumerate(configs) if _cannot_work(config)]
    which = f", of which {len(refused)} cannot work: {', '.join(map(str, refused))}" if refused else ""
    print(f"{len(configs)} jobs{which}", flush=True)
    needs = {
        number: found for number, c in enumerate(configs) if number not in refused and (found := _needs(number, c))
    }
    if needs:
        most = max(needs, key=lambda number: needs[number]["total"])
        total, there = (gigabytes(needs[most][term]) for term in ("total", "there"))
        print(f"job {most} needs the most memory, about {total} of {there}", flush=True)


def _cannot_work(config: Config) -> bool:
    return any(capabilities.problems(config.offers, capabilities.words(config.trainer.accelerator)))


def _needs(number: int, config: Config) -> Mapping[str, int] | None:
    """Bytes of memory, term by term; None where that cannot be counted here, which the job says when it begins."""
    if patches(config):  # what alters libraries does so in a process of its own
        return None
    try:
        return plan_once(config).memory
    except UserError as error:
        raise UserError(f"job {number}: {error.what}", error.fix) from error
    except Exception as error:  # of a part: the job trains, or says it
        what = f"{type(error).__name__}: {shortened(str(error))}"
        print(f"job {number}: its memory could not be counted: {what}", file=sys.stderr)
        return None


def _check_devices(trainer: TrainerOptions) -> None:
    """Lightning starts further processes with the same command line: each would run the whole sweep."""
    if trainer.devices not in (1, [0]) or trainer.num_nodes != 1:
        raise UserError(
            f"trainer.devices={trainer.devices} under -m: a job of a sweep trains on one device",
            "trainer.devices=1, or one command for each run",
        )


def combinations(lines: Sequence[str]) -> list[list[str]]:
    """The overrides of each job, as Hydra's basic sweeper makes them.

    Raises:
        UserError: a range that only another sweeper can take values from.

    Example:
        >>> combinations(["method=lora,full", "seed=1"])
        [['method=lora', 'seed=1'], ['method=full', 'seed=1']]
    """
    return [list(job) for job in product(*_choices(lines))]


def examples(lines: Sequence[str]) -> list[list[str]]:
    """Jobs that a sweeper might choose, so that all is looked at: each choice, the ends of an interval.

    Example:
        >>> examples(["method=lora,full", "optim.lr=interval(0.1,1)"])
        [['method=lora', 'optim.lr=0.1'], ['method=full', 'optim.lr=0.1'], ['method=lora', 'optim.lr=1.0']]
    """
    choices = _choices(lines, intervals=True)
    first = [values[0] for values in choices]
    others = [[*first[:at], value, *first[at + 1 :]] for at, values in enumerate(choices) for value in values[1:]]
    return [first, *others]


def _choices(lines: Sequence[str], intervals: bool = False) -> list[list[str]]:
    """What each override may be in a job; those of Hydra's own left out."""
    choices: list[list[str]] = []
    for override in parse(lines):
        line = override.input_line or ""
        if _hydras(line):
            continue
        try:
            values = [f"{override.get_key_element()}={value}" for value in _values(override, intervals)]
        except HydraException as error:
            raise UserError(f"{line}: {translate(error).what}", f"{override.key_or_group}=A,B,C") from error
        if override.is_sweep_override() and not values:
            raise UserError(f"{line} gives no job", f"{override.key_or_group}=A,B,C, or a range that has values")
        choices.append(values or [line])
    return choices


def _hydras(line: str) -> bool:
    return line.lstrip("+~").startswith(("hydra.", "hydra/"))


def _values(override: Override, intervals: bool) -> list[Any]:
    """The ends of an interval, from which Hydra takes no values; nothing where they are turned, or it is no sweep."""
    if not override.is_sweep_override():
        return []
    if intervals and override.is_interval_sweep():
        ends: Any = override.value()
        return [ends.start, ends.end] if ends.start <= ends.end else []
    return list(override.sweep_string_iterator())


def _folder(lines: Sequence[str]) -> Path:
    overrides = parse(lines)
    swept = [override.key_or_group for override in overrides if override.is_sweep_override()]
    if "run.dir" in swept:
        raise UserError("run.dir is the folder of the whole sweep", "run.dir=FOLDER, one value")
    given: Any = next((o.value() for o in overrides if o.key_or_group == "run.dir"), None)
    what = "-".join(key.replace("/", ".") for key in swept) or "sweep"
    folder = Path(f"sweeps/{datetime.now():%Y-%m-%d_%H-%M-%S}_{what}" if given is None else str(given)).absolute()
    if folder.is_file() or (folder.exists() and any(folder.iterdir())):
        raise UserError(f"{folder} is there and not empty", "run.dir=FOLDER that is new")
    return folder
