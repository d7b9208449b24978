"""The page of a sweep in a browser: nothing is cut off, covered or fetched, on a wide screen or a narrow one."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from core.sweep_report import close
from core.sweep_table import COLUMNS, SweepTable

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine: apt-get install chromium")

LOOK = """
<script>
const found = {wide: 0, cut: [], covered: [], fetched: [], drawn: 0};
found.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
found.fetched = performance.getEntriesByType("resource").map(entry => entry.name);
const inside = (box, frame) => box.left >= frame.left - 1 && box.right <= frame.right + 1
  && box.top >= frame.top - 1 && box.bottom <= frame.bottom + 1;
const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1
  || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
for (const plot of document.querySelectorAll("svg")) {
  const frame = plot.getBoundingClientRect();
  const texts = [...plot.querySelectorAll("text")];
  for (const thing of plot.querySelectorAll("text, circle, polyline")) {
    if (!inside(thing.getBoundingClientRect(), frame)) found.cut.push(thing.tagName + " " + thing.textContent);
    found.drawn += 1;
  }
  const boxes = texts.map(text => text.getBoundingClientRect());
  texts.forEach((a, i) => texts.slice(i + 1).forEach((b, j) => {
    if (!apart(boxes[i], boxes[i + 1 + j])) found.covered.push(a.textContent + " | " + b.textContent);
  }));
}
document.body.dataset.found = JSON.stringify(found);
</script>
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Twelve jobs: three methods with three seeds each, one that failed and two that were refused."""
    lines: list[list[Any]] = []
    for number in range(9):
        method = ("lora", "adapters", "full")[number // 3]
        value = 0.6 + 0.03 * number
        what = f"method={method} quant=none data=jsonl data.train=/a/long/path/to/some/rows.jsonl seed={number % 3}"
        lines.append([number, what, "done", "exact", 0.0, value, 30.0 + number, 1_500_000_000 + 300_000_000 * number])
        run = tmp_path / str(number)
        run.mkdir()
        steps = [{"split": "train", "step": step, "loss": 3 / (step + number)} for step in range(1, 60)]
        after = {"split": "after", "metric": "exact", "value": value, "n": 50, "low": value - 0.1, "high": value + 0.1}
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*steps, after]))
    lines.append([9, "method=lora quant=int4 optim.lr=1e38", "failed", "", "", "", 1.0, ""])
    lines += [[number, f"method=full quant=int{number - 6}", "refused", "", "", "", "", ""] for number in (10, 14)]
    with (tmp_path / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([list(COLUMNS), *lines])
    close(SweepTable(tmp_path))
    return tmp_path / "report.html"


def looked_at(page: Path, width: int, *flags: str) -> dict[str, Any]:
    """What a script finds that asks the browser where everything is."""
    copy = page.with_name(f"looked-at-{width}.html")
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{LOOK}</body>"), encoding="utf-8")
    words = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={page.parent / 'profile'}",
        f"--window-size={width},1000", *flags, "--dump-dom", copy.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    said = re.search(r'data-found="([^"]*)"', done.stdout)
    assert said is not None, done.stderr
    return json.loads(unescape(said[1]))


@pytest.mark.parametrize("width", [1280, 500])
def test_everything_is_in_its_place(page, width):
    found = looked_at(page, width)
    assert found["drawn"] > 20
    assert found["wide"] == 0
    assert found["cut"] == []
    assert found["covered"] == []
    assert found["fetched"] == []


def test_what_does_not_fit_is_noticed(page):
    """Else the checks above could not fail."""
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("<circle", '<text x="639" y="9">too far to the right</text><circle', 1), "utf-8")
    assert "text too far to the right" in looked_at(page, 1280)["cut"]
