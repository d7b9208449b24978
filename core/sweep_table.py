"""The lines of a sweep: written as jobs end, by whatever process ran them, and shown when all have."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core.errors import UserError
from core.run_files import read_status


@dataclass
class Job:
    """One line of ``table.csv``.

    Attributes:
        job: Its number, which is also its folder.
        overrides: What makes it differ.
        state: ``done``, ``failed``, ``refused`` or ``stopped``.
        metric: Name of what was measured.
        before: Its value before training.
        after: Its value after training.
        seconds: How long it took.
        peak_memory: Bytes above what was held before loading.
    """

    job: int
    overrides: str
    state: str
    metric: str = ""
    before: float | None = None
    after: float | None = None
    seconds: float | None = None
    peak_memory: int | None = None


CUT = "\0"
"""Stands for what a line lacks."""

COLUMNS = tuple(field.name for field in fields(Job))


@dataclass(frozen=True)
class SweepTable:
    """``table.csv`` of a sweep's folder."""

    folder: Path

    @property
    def file(self) -> Path:
        """Where it lies."""
        return self.folder / "table.csv"

    @property
    def plan(self) -> Path:
        """What each job was typed as, and from which folder: what is missing can be run later."""
        return self.folder / "sweep.json"

    @contextmanager
    def alone(self) -> Generator[None]:
        """Keep others from running jobs of this sweep; the system lets go when this process dies.

        Raises:
            UserError: another process runs it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".sweep.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise UserError(f"{self.folder} is being run by another process", "wait for it, or stop it first") from None
        try:
            yield
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)
            with suppress(OSError):  # it is not empty, unless no job began
                self.folder.rmdir()

    def begin(self, jobs: Sequence[Sequence[str]]) -> None:
        """Write down, once, which jobs there will be; none are known where a sweeper chooses as it goes."""
        if not self.plan.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            said = {"folder": os.getcwd(), "jobs": [list(job) for job in jobs]}
            self.plan.write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def add(self, job: Job) -> None:
        """Append a line; the header with the first one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # a launcher may run jobs side by side
        with FileLock(self.folder / ".table.lock"), self.file.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(asdict(job))

    def settle(self) -> list[Job]:
        """Leave the last line of each job, in the order of their numbers."""
        with FileLock(self.folder / ".table.lock"):
            jobs = self.jobs()
            fresh = self.file.with_suffix(".part")
            with fresh.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(asdict(job) for job in jobs)
            fresh.replace(self.file)
        return jobs

    def jobs(self) -> list[Job]:
        """The last line of each job, in the order of their numbers; one that was cut off is none."""
        if not self.file.exists():
            return []
        found: dict[int, Job] = {}
        with self.file.open(newline="", encoding="utf-8", errors="replace") as file:
            for row in csv.DictReader(file, restval=CUT):
                with suppress(KeyError, TypeError, ValueError):
                    if CUT not in row.values():
                        found[int(row["job"])] = _job(row)
        return [found[number] for number in sorted(found)]

    def missing(self, jobs: Sequence[Job]) -> list[int]:
        """Numbers of those that resuming would run: never begun, stopped or failed; none where a sweeper chose them."""
        try:
            number = len(json.loads(self.plan.read_text(encoding="utf-8"))["jobs"])
        except (OSError, ValueError, LookupError, TypeError):
            return []
        ended = {job.job for job in jobs if job.state in ("done", "refused")}
        return [at for at in range(number) if at not in ended]

    def reasons(self, jobs: Sequence[Job]) -> dict[int, str]:
        """Number of a job that was refused or failed -> why, as its folder says."""
        found: dict[int, str] = {}
        for job in jobs:
            with suppress(UserError):
                if job.state in ("refused", "failed") and (why := read_status(self.folder / str(job.job))["error"]):
                    found[job.job] = f"{job.state}: {why}"
        return found


def what_differs(jobs: Sequence[Job]) -> list[str]:
    """The overrides that not all jobs share: the file has them all, a screen has no room."""
    typed = [job.overrides.split() for job in jobs]
    shared = set(typed[0]).intersection(*typed) if len(jobs) > 1 else set[str]()
    return [" ".join(word for word in words if word not in shared) or " ".join(words) for words in typed]


def cells(job: Job) -> list[str]:
    """The columns from the third on as they are shown."""
    return [_cell(name, getattr(job, name)) for name in COLUMNS[2:]]


def _job(row: dict[str, str]) -> Job:
    numbers: dict[str, Any] = {name: float(row[name]) if row[name] else None for name in ("before", "after", "seconds")}
    memory = int(row["peak_memory"]) if row["peak_memory"] else None
    return Job(int(row["job"]), row["overrides"], row["state"], row["metric"], **numbers, peak_memory=memory)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "peak_memory":
        return f"{value / 1e9:.2f} GB"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
