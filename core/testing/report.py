"""A pytest plugin: the kit's report, a line a check, for ``plugins check``."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Generator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from core.testing.part import PartContract

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


UNUSABLE = pytest.StashKey[list[UserError]]()
"""Why parts cannot be made, one a part."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    """A part that cannot be made is said once, in two lines, and not by each check of the kit."""
    contracts = {item.cls: None for item in items if issubclass(getattr(item, "cls", None) or object, PartContract)}
    errors = {contract: error for contract in contracts if (error := _unusable(contract))}
    left_out = [item for item in items if getattr(item, "cls", None) in errors]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    config.stash[UNUSABLE] = list(errors.values())


def _unusable(contract: type[PartContract]) -> UserError | None:
    """A bar that a library draws meanwhile is for nobody."""
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        return contract.unusable(Path(folder))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """An error that says what is wrong in two lines needs no traceback."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, UserError):
        report.longrepr = str(call.excinfo.value)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What was left out has failed, whatever the others did."""
    if session.config.stash.get(UNUSABLE, []):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Generator[None]:
    """A line for each check, sorted by part; what pytest shows of failures comes behind it."""
    for error in terminalreporter.config.stash.get(UNUSABLE, []):
        terminalreporter.write_line(str(error))
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
