"""``report.html`` of a sweep: one page that needs nothing else, with the jobs, the metric, and the losses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from statistics import mean

from core import svg
from core.sweep_groups import HEADINGS, Group, grouped, logged, measured, over_seeds
from core.sweep_screen import show
from core.sweep_table import COLUMNS, Job, SweepTable, cells, what_differs

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; font-size: 14px; } td, th { padding: .25em .8em; text-align: left;
  border-bottom: 1px solid #ddd; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } h1, .key { overflow-wrap: anywhere; }
.done { color: #1a7f37; } .failed, .refused, .stopped { color: #9a3412; }
svg { width: 100%; max-width: 52em; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: #444; }
.grid { stroke: #e4e4e4; } .key span { display: inline-block; margin-right: 1.2em; }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .35em; }
"""

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{style}</style></head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""

SMOOTH = 0.05
"""Share of a run's steps over which its loss is averaged."""


def close(table: SweepTable) -> list[Job]:
    """Print the jobs of a sweep and write its page; return the jobs."""
    jobs = table.settle() if table.file.exists() else []
    if jobs:
        show(table, jobs, write_report(table.folder, jobs).name)
    return jobs


def write_report(folder: Path, jobs: Sequence[Job]) -> Path:
    """Write the page of a sweep; one that is there is replaced."""
    file = folder / "report.html"
    body = "\n".join(_sections(folder, jobs))
    file.write_text(PAGE.format(style=STYLE, title=escape(folder.name), body=body), encoding="utf-8")
    return file


def _sections(folder: Path, jobs: Sequence[Job]) -> Iterator[str]:
    yield f"<p>{_counted(jobs)}</p>"
    yield _table(jobs)
    for number, why in SweepTable(folder).reasons(jobs).items():
        yield f"<p>job {number} {escape(why)}</p>"
    if lines := over_seeds(folder, jobs):
        yield _seeds(lines)
    groups = grouped(jobs)
    for metric, those in measured(groups).items():
        yield f"<h2>{escape(metric)} against memory and time</h2>"
        yield f"<p>{_how(those)} Across: memory at the peak; the area of a disc is the time of training.</p>"
        yield _key(those) + _scatter(folder, those, metric)
    curves = [(group, job, _losses(folder, job)) for group in groups for job in group.jobs]
    if any(points for _, _, points in curves):
        yield f"<h2>Loss in training</h2><p>Each the mean of {SMOOTH:.0%} of the steps.</p>"
        drawn = [svg.Line(f"job {job.job}: {job.overrides}", p, group.number) for group, job, p in curves if p]
        yield _key(groups) + svg.lines(drawn, "step", "loss")


def _counted(jobs: Sequence[Job]) -> str:
    states = [job.state for job in jobs]
    found = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
    return f"{len(jobs)} jobs: {found}"


def _table(jobs: Sequence[Job]) -> str:
    lines = ['<div class="wide"><table><tr>' + "".join(f"<th>{name}</th>" for name in COLUMNS) + "</tr>"]
    for job, differs in zip(jobs, what_differs(jobs), strict=True):
        texts = [f'<td class="number">{job.job}</td>', f"<td>{escape(differs)}</td>"]
        texts += [f'<td class="{job.state}">{job.state}</td>', f"<td>{escape(job.metric)}</td>"]
        texts += [f'<td class="number">{escape(cell)}</td>' for cell in cells(job)[2:]]
        lines.append("<tr>" + "".join(texts) + "</tr>")
    return "\n".join([*lines, "</table></div>"])


def _seeds(lines: Sequence[Sequence[str]]) -> str:
    rows = ["".join(f"<th>{name}</th>" for name in HEADINGS)]
    rows += ["".join(f"<td>{escape(cell)}</td>" for cell in line) for line in lines]
    return '<div class="wide"><table>' + "\n".join(f"<tr>{row}</tr>" for row in rows) + "</table></div>"


def _how(groups: Sequence[Group]) -> str:
    several = max(len(group.jobs) for group in groups)
    if several > 1:
        return f"After training: the mean of up to {several} seeds with its 95 % interval."
    return "After training, with the 95 % interval of the held-out rows."


def _key(groups: Sequence[Group]) -> str:
    marks = [f'<span><i style="background:{svg.colour(g.number)}"></i>{escape(g.name)}</span>' for g in groups]
    return f'<p class="key">{"".join(marks)}</p>'


def _scatter(folder: Path, groups: Sequence[Group], metric: str) -> str:
    longest = max(group.mean("seconds") for group in groups) or 1.0
    drawn: list[svg.Point] = []
    for group in groups:
        low, high = group.interval(folder)
        seconds, memory = group.mean("seconds"), group.mean("peak_memory") / 1e9
        name = f"{group.name}: {group.value:.4g} ({low:.4g} to {high:.4g}), {memory:.2f} GB, {seconds:.0f} s"
        low, high = (end if math.isfinite(end) else group.value for end in (low, high))
        drawn.append(svg.Point(name, memory, group.value, low, high, seconds / longest, group.number))
    return svg.points(drawn, "GB at the peak", metric)


def _losses(folder: Path, job: Job) -> list[tuple[float, float]]:
    steps = [(line["step"], line["loss"]) for line in logged(folder, job) if line["split"] == "train"]
    found = [(step, loss) for step, loss in steps if loss is not None]
    width = max(1, math.ceil(SMOOTH * len(found)))
    return [
        (found[at][0], mean(loss for _, loss in found[max(0, at - width + 1) : at + 1])) for at in range(len(found))
    ]
