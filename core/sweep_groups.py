"""Jobs that differ in their seed alone, taken together: a mean, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from core.intervals import of_mean
from core.result import Result
from core.sweep_table import Job, what_differs

HEADINGS = ("over seeds", "metric", "after", "95 % interval", "seeds", "seconds", "peak_memory")
"""Of the table that :func:`over_seeds` fills."""


@dataclass(frozen=True)
class Group:
    """Jobs that differ in their seed alone.

    Attributes:
        name: What they share.
        jobs: Those that were done and measured.
        number: Which colour they have.
    """

    name: str
    jobs: Sequence[Job]
    number: int

    @property
    def value(self) -> float:
        """The mean of the metric after training."""
        return mean(job.after for job in self.jobs if job.after is not None)

    def mean(self, field: str) -> float:
        """Of what each job took, with 0 where that is not known."""
        return mean(getattr(job, field) or 0 for job in self.jobs)

    def interval(self, folder: Path) -> tuple[float, float]:
        """Of several seeds that of their mean, of one that of its own rows."""
        values = [job.after for job in self.jobs if job.after is not None]
        if len(values) > 1:
            return of_mean(values)
        after = Result(folder / str(self.jobs[0].job)).after
        return (self.value, self.value) if after is None else (after.low, after.high)


def grouped(jobs: Sequence[Job]) -> list[Group]:
    """Jobs that were done, those with the same overrides but for the seed together."""
    names: dict[str, list[Job]] = {}
    for job, differs in zip(jobs, what_differs(jobs), strict=True):
        if job.state == "done":
            name = " ".join(word for word in differs.split() if not word.lstrip("+").startswith("seed="))
            names.setdefault(name or "as usual", []).append(job)
    return [Group(name, found, number) for number, (name, found) in enumerate(names.items())]


def measured(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Metric -> the groups with the jobs that it was measured on."""
    names = dict.fromkeys(job.metric for group in groups for job in group.jobs if job.after is not None)
    found = {
        name: [replace(group, jobs=[job for job in group.jobs if job.metric == name]) for group in groups]
        for name in names
    }
    return {name: [group for group in those if group.jobs] for name, those in found.items()}


def over_seeds(folder: Path, jobs: Sequence[Job]) -> list[list[str]]:
    """A line for each group, under :data:`HEADINGS`; none where no job has another seed's beside it."""
    lines: list[list[str]] = []
    for metric, groups in measured(grouped(jobs)).items():
        if max(len(group.jobs) for group in groups) == 1:
            continue
        for group in groups:
            low, high = group.interval(folder)
            seconds, memory = group.mean("seconds"), group.mean("peak_memory") / 1e9
            interval = f"{low:.4g} to {high:.4g}" if len(group.jobs) > 1 else "one seed"
            lines.append([group.name, metric, f"{group.value:.4g}", interval, str(len(group.jobs)),
                          f"{seconds:.4g}", f"{memory:.2f} GB"])  # fmt: skip
    return lines


def logged(folder: Path, job: Job) -> Sequence[Mapping[str, Any]]:
    """Lines of a job's ``metrics.jsonl``."""
    return Result(folder / str(job.job)).metrics
