"""A pytest plugin: the kit's report, a line a check, for ``plugins check``."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

STATES = {
    "passed": "ok",
    "failed": "FAILED",
    "skipped": "-",
    "xfailed": "waived",
    "xpassed": "FAILED",
    "error": "FAILED",
}

COUNTED = {"ok": "passed", "FAILED": "failed", "-": "skipped", "waived": "waived"}
"""What a line begins with -> its column."""


def pytest_report_teststatus(report: Any) -> tuple[str, str, str] | None:
    """No letters while the tests run: the lines at the end say it all."""
    if report.when == "call" or report.outcome != "passed":
        kind = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        return kind, "", kind.upper()
    return None


def pytest_addoption(parser: Any) -> None:
    """``plugins check --all`` makes a table of the numbers itself."""
    parser.addoption("--counts", metavar="FILE", help="write what came of each check, in place of a line for it")


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: Any) -> Generator[None]:
    """A line for each check, sorted by part."""
    lines: list[tuple[str, str]] = []
    counts: dict[str, dict[str, list[str]]] = {}
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            if outcome in STATES and hasattr(report, "nodeid"):
                place, _, check = report.nodeid.rpartition("::")
                part = place.rpartition("::")[2]
                lines.append((part, _line(outcome, check, report)))
                counts.setdefault(part, {}).setdefault(COUNTED[STATES[outcome]], []).append(_in_words(check))
    if file := terminalreporter.config.getoption("--counts"):
        Path(file).write_text(json.dumps(counts), encoding="utf-8")
        return (yield)
    for place in dict.fromkeys(place for place, _ in sorted(lines)):
        terminalreporter.write_line(f"\n{place.removeprefix('Test').lstrip('_').replace('_', '=', 1)}")
        for _, line in sorted(line for line in lines if line[0] == place):
            terminalreporter.write_line(line)
    return (yield)


def _in_words(check: str) -> str:
    return check.removeprefix("test_").replace("_", " ")


def _line(outcome: str, check: str, report: Any) -> str:
    said = f"  {STATES[outcome]:<8}{_in_words(check)}"
    if outcome == "xfailed":
        return f"{said}: {report.wasxfail}"
    if outcome == "skipped" and isinstance(report.longrepr, tuple):
        return f"{said}: {report.longrepr[2].removeprefix('Skipped: ')}"
    return said
