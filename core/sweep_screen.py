"""What a sweep prints when its jobs have ended."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from core.sweep_groups import HEADINGS, over_seeds
from core.sweep_table import COLUMNS, Job, SweepTable, cells, what_differs


def show(sweep: SweepTable, jobs: Sequence[Job], page: str) -> None:
    """Print a line for each job, one for each setting of several seeds, why some are not done, and where it lies.

    Args:
        sweep: Its folder.
        jobs: Of it.
        page: Name of the file in the folder that shows it.
    """
    console = Console(highlight=False, markup=False, soft_wrap=not sys.stdout.isatty())
    lines = [[str(job.job), differs, *cells(job)] for job, differs in zip(jobs, what_differs(jobs), strict=True)]
    for headings, rows in ((COLUMNS, lines), (HEADINGS, over_seeds(sweep.folder, jobs))):
        if rows:
            table = Table(*headings, show_edge=False, pad_edge=False)
            for row in rows:
                table.add_row(*row)
            console.print()
            console.print(table)
    for number, why in sweep.reasons(jobs).items():
        console.print(f"\njob {number} {why}")
    if missing := sweep.missing(jobs):
        again = shlex.join(["python", "-m", "core", "sweep", "resume", str(sweep.folder)])
        console.print(f"\nnot done: {', '.join(map(str, missing))}; go on with: {again}")
    console.print(f"\nsaved {sweep.folder}, and {page} in it shows it")
