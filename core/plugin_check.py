"""Whether a part keeps its contract: the conformance kit in a process of its own, and a line for each check."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from core.discovery import discover
from core.errors import UserError
from core.overrides import quoted
from core.registry import Offer

TEST = """from core.testing import CONTRACTS


class Test{title}(CONTRACTS[{axis!r}]):
    name = {name!r}
    overrides = {overrides!r}
"""


def check(what: str, overrides: Sequence[str]) -> int:
    """Run the kit and print its report.

    Args:
        what: A part's name, or the folder of a plugin with tests of its own.
        overrides: What the part cannot run without, such as ``data.train=my.jsonl``.

    Returns:
        0 when all is green, else 1.

    Raises:
        UserError: there is no such part or folder, or one without tests, or pytest is not installed.
    """
    if importlib.util.find_spec("pytest") is None:
        raise UserError("plugins check needs pytest", "pip install pytest")
    if Path(what).is_dir():
        return _check_folder(Path(what).resolve())
    offers, there = _offers(what), [_from_anywhere(line) for line in overrides]
    with tempfile.TemporaryDirectory() as folder:
        for offer in offers:
            title = "".join(c for c in f"{offer.axis.title()}{offer.part.name.title()}" if c.isalnum())
            text = TEST.format(title=title, axis=offer.axis, name=offer.part.name, overrides=there)
            (Path(folder) / f"test_{title.lower()}.py").write_text(text, encoding="utf-8")
        return _run([folder], [module for offer in offers for module in offer.part.import_first])


def _check_folder(folder: Path) -> int:
    if not any(folder.rglob("test_*.py")) and not any(folder.rglob("*_test.py")):
        raise UserError(f"{folder} holds no tests", "plugins check NAME, or begin as plugins new does: tests/test_*.py")
    return _run([str(folder)])


def _from_anywhere(override: str) -> str:
    """With a file it names made absolute: each check has a folder of its own."""
    key, equals, value = override.partition("=")
    file = Path(value).expanduser()
    return f"{key}={quoted(str(file.absolute()))}" if equals and value and file.exists() else override


def _offers(name: str) -> list[Offer]:
    registry = discover()
    found = [offer for offer in registry.offers if offer.part.name == name]
    if found:
        return [registry.find(offer.axis, offer.part.name) for offer in found]
    near = get_close_matches(name, {offer.part.name for offer in registry.offers}, 1)
    guess = f"did you mean {near[0]}?" if near else "python -m core plugins list, or the folder of a plugin"
    raise UserError(f"no part and no folder is called {name}", guess)


def _run(places: Sequence[str], first: Sequence[str] = ()) -> int:
    options = [*(word for module in first for word in ("-p", module))]
    options += [
        "-q",
        "-p",
        "core.testing.report",
        "-p",
        "no:cacheprovider",
        "--no-header",
        "--tb=short",
        "-o",
        "addopts=",
    ]
    done = subprocess.run([sys.executable, "-m", "pytest", *options, *places], check=False)  # noqa: S603  # our words
    return 1 if done.returncode else 0
