"""Several runs from one command: every job checked before the first one starts, and a line for each at the end."""

from __future__ import annotations

import csv
import gc
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import core
from core import capabilities
from core.compose import Config, composed, from_composed, normalise
from core.discovery import discover
from core.errors import UserError
from core.hydra_app import plain, run_hydra
from core.overrides import disabled, group_choice, parse, quoted
from core.registry import AXES, Registry


@dataclass
class Job:
    """One line of ``table.csv``."""

    job: int
    overrides: str
    state: str
    metric: str = ""
    before: float | None = None
    after: float | None = None
    seconds: float | None = None
    peak_memory: int | None = None


def sweep(typed: Sequence[str]) -> int:
    """Run every combination.

    Returns:
        0 when all were done, 1 when one failed or was refused.

    Raises:
        UserError: a name, key or value of some job is wrong; nothing was run.
    """
    registry = discover(disabled(parse(typed)))
    lines = normalise(typed, registry, multirun=True)
    for job in combinations(lines, registry):
        composed(job, registry)
    folder = _folder(lines)
    done: list[Job] = []
    kept = [line for line in lines if not line.startswith("run.dir=")]

    def task(tree: DictConfig) -> float | None:
        return _one(tree, folder, registry, done)

    try:
        run_hydra(["-m", *kept, f"run.dir={quoted(folder)}"], registry, task)
    finally:
        if done:
            _report(folder, done)
    return 0 if all(job.state == "done" for job in done) else 1


def combinations(lines: Sequence[str], registry: Registry) -> list[list[str]]:
    """The overrides of each job, as Hydra's basic sweeper makes them; the first only when another sweeper chooses.

    Example:
        >>> combinations(["method=lora,full", "seed=1"], Registry())
        [['method=lora', 'seed=1'], ['method=full', 'seed=1']]
    """
    from itertools import product

    if any(line.startswith("hydra/sweeper") for line in lines):
        return []
    choices: list[list[str]] = []
    for override in parse(lines):
        line = override.input_line or ""
        if line.startswith(("hydra.", "hydra/")):
            continue
        if not override.is_sweep_override():
            choices.append([line])
        elif group_choice(override) and hasattr(override.value(), "filter"):
            names = registry.names(override.key_or_group) if override.key_or_group in AXES else []
            choices.append([f"{override.key_or_group}={name}" for name in override.value().filter(names)])  # pyright: ignore
        else:
            choices.append([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])
    return [list(job) for job in product(*choices)]


def _folder(lines: Sequence[str]) -> Path:
    given = next((str(o.value()) for o in parse(lines) if o.key_or_group == "run.dir"), None)
    swept = [o.key_or_group for o in parse(lines) if o.is_sweep_override()]
    name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{'-'.join(key.replace('/', '.') for key in swept) or 'sweep'}"
    folder = Path(given or f"sweeps/{name}").absolute()
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is there and not empty", "run.dir=FOLDER that is new")
    return folder


def _one(tree: DictConfig, folder: Path, registry: Registry, done: list[Job]) -> float | None:
    """Run one job; whatever happens to it, the others run."""
    hydra = HydraConfig.get()
    typed = [line for line in hydra.overrides.task if not line.startswith("run.dir=")]
    job = Job(int(hydra.job.num), " ".join(typed), "running")
    done.append(job)
    print(f"\njob {job.job}: {job.overrides}", flush=True)
    began = time.monotonic()
    config = _config(tree, typed, folder / str(job.job), registry)
    _train(config, job)
    # outside the except blocks, where the error held the failed job's model
    gc.collect()
    job.seconds = job.seconds or round(time.monotonic() - began, 3)
    return job.after


def _config(tree: DictConfig, typed: Sequence[str], folder: Path, registry: Registry) -> Config:
    own = OmegaConf.create(plain(tree))
    own.run.dir = str(folder)
    choices = {a: n for a, n in HydraConfig.get().runtime.choices.items() if not a.startswith("hydra/")}
    return from_composed(own, choices, [*typed, f"run.dir={quoted(folder)}"], registry)


def _train(config: Config, job: Job) -> None:
    try:
        capabilities.check(config.offers, capabilities.words(), config.registry)
    except UserError as error:
        job.state = "refused"
        print(error, file=sys.stderr)
        return
    try:
        result: Any = core.train(config)
        job.state, job.seconds, job.peak_memory = "done", result.seconds, result.peak_memory
        for split, score in (("before", result.before), ("after", result.after)):
            if score is not None:
                job.metric = score.name
                setattr(job, split, score.value)
    except UserError as error:
        job.state = "failed"
        print(error, file=sys.stderr)
    except Exception:
        job.state = "failed"
        traceback.print_exc()
    except KeyboardInterrupt:
        job.state = "stopped"
        raise


def _report(folder: Path, done: Sequence[Job]) -> None:
    """``table.csv``, and a line for each job."""
    from rich.console import Console
    from rich.table import Table

    names = [field.name for field in fields(Job)]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([getattr(job, name) for name in names] for job in done)
    table = Table(*names, show_edge=False, pad_edge=False)
    for job in done:
        table.add_row(*(_cell(name, getattr(job, name)) for name in names))
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    console.print()
    console.print(table)
    console.print(f"\nsaved {folder}")


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "peak_memory":
        return f"{value / 1e9:.2f} GB"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
