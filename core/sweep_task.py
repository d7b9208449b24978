"""What Hydra calls for each job of a sweep, in whatever process its launcher runs it."""

from __future__ import annotations

import copy
import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from core.compose import Config, from_composed
from core.discovery import discover
from core.overrides import quoted
from core.registry import Registry
from core.sweep_job import run_job
from core.sweep_table import Job, SweepTable


class Task:
    """Runs one job; whatever happens to it, the others run.

    Args:
        table: The sweep's.
        jobs: What each job is typed as, where that is known.
        disabled: Plugins to leave out.
        registry: What was discovered; another process discovers for itself.
    """

    def __init__(
        self, table: SweepTable, jobs: Sequence[Sequence[str]], disabled: Sequence[str], registry: Registry | None
    ) -> None:
        self.table = table
        self.jobs = jobs
        self.disabled = disabled
        self.registry = registry

    def __reduce__(self) -> tuple[Any, ...]:
        """Plugins are modules, which do not travel."""
        return Task, (self.table, self.jobs, self.disabled, None)

    def __call__(self, tree: DictConfig) -> float | None:
        """What a sweeper is to make as large as it can: the metric after, its negative where less is better."""
        hydra = HydraConfig.get()
        typed = [line for line in hydra.overrides.task if not line.startswith("run.dir=")]
        job = Job(int(hydra.job.num), " ".join(typed), "stopped")
        print(f"\njob {job.job}: {job.overrides}", flush=True)
        self.table.begin(self.jobs)
        registry = self.registry or discover(self.disabled)
        try:
            worth = run_job(_config(tree, typed, self.table.folder / str(job.job), registry), job)
        finally:
            self.table.add(job)
        # outside the except blocks, where the error held the failed job's model
        gc.collect()
        if not gc.get_freeze_count():  # what is left are libraries: later jobs need not look through them
            gc.freeze()
        return worth


def _config(tree: DictConfig, typed: Sequence[str], folder: Path, registry: Registry) -> Config:
    own = copy.deepcopy(tree)
    OmegaConf.set_struct(own, False)
    own.run.dir = str(folder).replace("${", "\\${")
    choices = {axis: name for axis, name in HydraConfig.get().runtime.choices.items() if not axis.startswith("hydra/")}
    return from_composed(own, choices, [*typed, f"run.dir={quoted(folder)}"], registry)
