"""Several runs from one command: every job checked before the first one starts, and a line for each at the end."""

from __future__ import annotations

import copy
import gc
from collections.abc import Sequence
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from core import capabilities
from core.compose import Config, composed, from_composed
from core.discovery import discover
from core.errors import UserError
from core.hydra_app import run_hydra, translate
from core.normalise import normalise
from core.overrides import disabled, parse, quoted
from core.registry import Registry
from core.sweep_job import run_job
from core.sweep_report import close
from core.sweep_table import Job, SweepTable
from core.trainer_options import TrainerOptions


def sweep(typed: Sequence[str]) -> int:
    """Run every combination.

    Returns:
        0 when all were done, 1 when one failed or was refused.

    Raises:
        UserError: a name, key or value of some job is wrong; nothing was run.
    """
    registry = discover(disabled(parse(typed)))
    lines = normalise(typed, registry, multirun=True)
    jobs = combinations(lines)
    configs = [composed(job, registry) for job in jobs]
    for config in configs:
        _check_devices(config.trainer)
    table = SweepTable(_folder(lines))
    _say_refused(configs)
    kept = [line for line in lines if not line.startswith("run.dir=")]
    own = [f"{key}={quoted(table.folder)}" for key in ("run.dir", "hydra.sweep.dir")]
    try:
        run_hydra(["-m", *kept, *own], registry, lambda tree: _one(tree, table, jobs, registry))
    finally:
        done = close(table)
    return 0 if len(done) >= max(len(jobs), 1) and all(job.state == "done" for job in done) else 1


def _say_refused(configs: Sequence[Config]) -> None:
    """Which jobs will be refused is said before the first one starts."""
    refused = [i for i, c in enumerate(configs) if next(capabilities.problems(c.offers, capabilities.words()), None)]
    if configs:
        which = f", of which {len(refused)} cannot work: {', '.join(map(str, refused))}" if refused else ""
        print(f"{len(configs)} jobs{which}", flush=True)


def _check_devices(trainer: TrainerOptions) -> None:
    """Lightning starts further processes with the same command line: each would run the whole sweep."""
    if trainer.devices not in (1, [0]) or trainer.num_nodes != 1:
        raise UserError(
            f"trainer.devices={trainer.devices} under -m: a job of a sweep trains on one device",
            "trainer.devices=1, or one command for each run",
        )


def combinations(lines: Sequence[str]) -> list[list[str]]:
    """The overrides of each job, as Hydra's basic sweeper makes them; none when another sweeper chooses.

    Raises:
        UserError: a range that only another sweeper can take values from.

    Example:
        >>> combinations(["method=lora,full", "seed=1"])
        [['method=lora', 'seed=1'], ['method=full', 'seed=1']]
    """
    if any(line.startswith("hydra/sweeper") for line in lines):
        return []
    choices: list[list[str]] = []
    for override in parse(lines):
        line = override.input_line or ""
        if line.startswith(("hydra.", "hydra/")):
            continue
        try:
            values = override.sweep_string_iterator() if override.is_sweep_override() else None
            key = override.get_key_element()
            choices.append([line] if values is None else [f"{key}={value}" for value in values])
        except HydraException as error:
            raise UserError(f"{line}: {translate(error).what}", f"{override.key_or_group}=A,B,C") from error
    return [list(job) for job in product(*choices)]


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


def _one(tree: DictConfig, table: SweepTable, jobs: Sequence[Sequence[str]], registry: Registry) -> float | None:
    """Run one job; whatever happens to it, the others run."""
    hydra = HydraConfig.get()
    typed = [line for line in hydra.overrides.task if not line.startswith("run.dir=")]
    job = Job(int(hydra.job.num), " ".join(typed), "stopped")
    print(f"\njob {job.job}: {job.overrides}", flush=True)
    table.begin(jobs)
    try:
        run_job(_config(tree, typed, table.folder / str(job.job), registry), job)
    finally:
        table.add(job)
    # outside the except blocks, where the error held the failed job's model
    gc.collect()
    return job.after


def _config(tree: DictConfig, typed: Sequence[str], folder: Path, registry: Registry) -> Config:
    own = copy.deepcopy(tree)
    OmegaConf.set_struct(own, False)
    own.run.dir = str(folder).replace("${", "\\${")
    choices = {axis: name for axis, name in HydraConfig.get().runtime.choices.items() if not axis.startswith("hydra/")}
    return from_composed(own, choices, [*typed, f"run.dir={quoted(folder)}"], registry)
