"""A pytest plugin: the kit's report, a line a check, for ``plugins check``."""

from __future__ import annotations

from collections.abc import Generator
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


def pytest_report_teststatus(report: Any) -> tuple[str, str, str] | None:
    """No letters while the tests run: the lines at the end say it all."""
    if report.when == "call" or report.outcome != "passed":
        kind = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        return kind, "", kind.upper()
    return None


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: Any) -> Generator[None]:
    """A line for each check, sorted by part."""
    lines: list[tuple[str, str]] = []
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            if outcome in STATES and hasattr(report, "nodeid"):
                place, _, check = report.nodeid.rpartition("::")
                lines.append((place.rpartition("::")[2], _line(outcome, check, report)))
    for place in dict.fromkeys(place for place, _ in sorted(lines)):
        terminalreporter.write_line(f"\n{place.removeprefix('Test')}")
        for _, line in sorted(line for line in lines if line[0] == place):
            terminalreporter.write_line(line)
    return (yield)


def _line(outcome: str, check: str, report: Any) -> str:
    said = f"  {STATES[outcome]:<8}{check.removeprefix('test_').replace('_', ' ')}"
    if outcome == "xfailed":
        return f"{said}: {report.wasxfail}"
    if outcome == "skipped" and isinstance(report.longrepr, tuple):
        return f"{said}: {report.longrepr[2].removeprefix('Skipped: ')}"
    return said
