"""The conformance kit over every part that is here, and a table of what came of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from core.discovery import discover
from core.plugin_check import needs_pytest, run, write_test
from core.plugin_list import state
from core.registry import AXES, Offer

COLUMNS = ("passed", "failed", "skipped", "waived")

Counts = Mapping[str, Mapping[str, Sequence[str]]]
"""Name of a test's class -> outcome -> checks."""


def check_all() -> int:
    """Run the kit on every part that is ready, and print a row for each.

    Returns:
        0 when all is green, else 1.

    Raises:
        UserError: pytest is not installed.
    """
    needs_pytest()
    registry = discover()
    offers = [offer for axis in AXES for offer in registry.offers if offer.axis == axis]
    ready = [offer for offer in offers if state(registry, offer) == "ready"]
    with tempfile.TemporaryDirectory() as folder:
        code, counts = _run(ready, Path(folder))
    print("\n".join(_table(ready, counts)))
    for offer in offers:
        if offer not in ready:
            print(f"{offer.axis}={offer.part.name} is left out: {state(registry, offer)}")
    return code


def _run(offers: Sequence[Offer], folder: Path) -> tuple[int, Counts]:
    """Those that are imported before their libraries get a process of their own."""
    together = [offer for offer in offers if not offer.part.import_first]
    code, counts = 0, dict[str, Mapping[str, Sequence[str]]]()
    for group in (together, *([offer] for offer in offers if offer.part.import_first)):
        if not group:
            continue
        first = [module for offer in group for module in offer.part.import_first]
        file = folder / "counts.json"
        file.unlink(missing_ok=True)
        code |= run([str(write_test(folder, offer, [])) for offer in group], first, [f"--counts={file}"])
        if file.exists():
            counts |= json.loads(file.read_text(encoding="utf-8"))
    return code, counts


def _table(offers: Iterable[Offer], counts: Counts) -> Iterable[str]:
    yield "  ".join([f"{'part':<24}", *(f"{column:>7}" for column in COLUMNS)])
    red: list[str] = []
    for offer in offers:
        part, found = f"{offer.axis}={offer.part.name}", counts.get(f"Test_{offer.axis}_{offer.part.name}")
        if found is None:
            red.append(f"{part}: nothing was checked")
            continue
        yield "  ".join([f"{part:<24}", *(f"{len(found.get(column, ())):>7}" for column in COLUMNS)])
        red += [f"{part}: {check}" for check in found.get("failed", ())]
    yield "\nall is green" if not red else f"\n{len(red)} red"
    yield from (f"  {line}" for line in red)
