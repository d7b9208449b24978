"""The page of a sweep says what its folder holds, and needs nothing but itself."""

from __future__ import annotations

import csv
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean

import pytest

from core import svg
from core.intervals import of_mean
from core.sweep_groups import grouped, over_seeds
from core.sweep_report import close, write_report
from core.sweep_table import COLUMNS, SweepTable

MARGIN = 1e-6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two methods with two seeds each, one that failed and one that was refused."""
    values = {("lora", 0): 0.80, ("lora", 1): 0.84, ("full", 0): 0.70, ("full", 1): 0.76}
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, ((method, seed), value) in enumerate(values.items()):
            what = f"method={method} data=jsonl seed={seed}"
            writer.writerow([number, what, "done", "exact", 0.1, value, 10.0 * (number + 1), 10**9 * (number + 1)])
            run = tmp_path / str(number)
            run.mkdir()
            lines: list[dict[str, object]] = [
                {"split": "train", "step": step, "loss": 2.0 / step} for step in range(1, 41)
            ]
            ends = {"low": value - 0.1, "high": value + 0.1}
            lines.append({"split": "after", "metric": "exact", "value": value, "n": 50, "better": "higher", **ends})
            (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"split": "tra')
        writer.writerow([4, "method=lora data=jsonl seed=2 <b>", "failed", "", "", "", 1.0, ""])
        writer.writerow([5, "method=full data=jsonl seed=3", "refused", "", "", "", "", ""])
    return tmp_path


class Page(HTMLParser):
    """All tags that were opened, closed in order, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_shows_each_job_the_mean_of_seeds_and_the_losses(folder, capsys):
    close(SweepTable(folder))
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert "6 jobs: 4 done, 1 failed, 1 refused" in text
    assert len([tag for tag, _ in page.tags if tag == "tr"]) == 7 + 3
    assert len([tag for tag, _ in page.tags if tag == "polyline"]) == 4
    assert len([tag for tag, _ in page.tags if tag == "circle"]) == 2
    low, high = of_mean([0.80, 0.84])
    assert f"method=lora: 0.82 ({low:.4g} to {high:.4g}), 1.50 GB, 15 s" in text
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    printed = capsys.readouterr().out
    assert "report.html in it shows it" in printed
    assert re.search(rf"method=lora +│ exact +│ 0\.82 +│ {low:.4g} to {high:.4g} +│ 2 +│ 15 +│ 1\.50 GB", printed)


def test_it_needs_nothing_else(folder):
    page = Page(write_report(folder, SweepTable(folder).jobs()).read_text())
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not {"src", "href"} & set(attributes)
    assert "url(" not in "".join(page.text)


def test_a_curve_is_the_mean_of_the_last_steps_where_the_steps_are(folder):
    text = write_report(folder, SweepTable(folder).jobs()).read_text()
    places = re.search(r'<title>job 0: [^<]*</title><polyline points="([^"]*)"', text)
    assert places is not None
    points = [tuple(map(float, place.split(","))) for place in places[1].split()]
    losses = [2.0 / step for step in range(1, 41)]
    smooth = [losses[0], *(mean(pair) for pair in itertools.pairwise(losses))]
    frame = svg.Frame(list(enumerate(smooth, 1)), "step", "loss")
    assert points == [pytest.approx(frame.at(step, loss), abs=0.06) for step, loss in enumerate(smooth, 1)]


def test_seeds_go_together_and_nothing_else_does(folder):
    groups = grouped(SweepTable(folder).jobs())
    assert [(group.name, [job.job for job in group.jobs]) for group in groups] == [
        ("method=lora", [0, 1]), ("method=full", [2, 3]),
    ]  # fmt: skip


def test_a_single_seed_has_the_interval_of_its_rows(folder):
    jobs = [job for job in SweepTable(folder).jobs() if job.job in (0, 2)]
    text = write_report(folder, jobs).read_text()
    assert "over seeds" not in text
    assert "0.8 (0.7 to 0.9)" in text
    assert "interval of the held-out rows" in text


def test_a_row_alone_has_no_interval(folder, capsys):
    """JSON has no infinity: it is null there."""
    for number in (0, 2):
        file = folder / str(number) / "metrics.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()[:-1]]
        file.write_text("".join(json.dumps({**line, "low": None, "high": None}) + "\n" for line in lines))
    (folder / "table.csv").write_text("".join((folder / "table.csv").read_text().splitlines(keepends=True)[:2]))
    assert close(SweepTable(folder))
    assert "(-inf to inf)" in (folder / "report.html").read_text()
    assert "saved" in capsys.readouterr().out


def test_a_setting_of_which_one_seed_is_done_has_no_interval_over_seeds(folder):
    jobs = [job for job in SweepTable(folder).jobs() if job.job in (0, 1, 2)]
    assert [line[3] for line in over_seeds(folder, jobs)][1:] == ["one seed"]


@pytest.mark.parametrize("values", [[0.0, 1.0], [3.0], [0.0], [-2.5, 1e6], [1e-7, 3e-7], [5, 5.0001]])
def test_ticks_lie_around_all_values(values):
    found = svg.ticks(values)
    step = found[1] - found[0]
    assert found[0] <= min(values) + MARGIN * step
    assert max(values) <= found[-1] + MARGIN * step
    assert 3 <= len(found) <= 8
    assert all(b - a == pytest.approx(step) for a, b in itertools.pairwise(found))
