"""Whether a part keeps its contract: the conformance kit in a process of its own, and a line for each check."""

from __future__ import annotations

import importlib.util
import os
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
        what: A part's name, or the folder of a plugin with tests of its own; ``./NAME`` where it is both.
        overrides: What the part cannot run without, such as ``data.train=my.jsonl``.

    Returns:
        0 when all is green, else 1.

    Raises:
        UserError: there is no such part or folder, or one without tests, or pytest is not installed.
    """
    if importlib.util.find_spec("pytest") is None:
        raise UserError("plugins check needs pytest", "pip install pytest")
    offers = [] if what.startswith(".") or os.sep in what else _offers(what)
    if not offers:
        return _check_folder(Path(what).expanduser().resolve(), what)
    there = [_from_anywhere(line) for line in overrides]
    with tempfile.TemporaryDirectory() as folder:
        for offer in offers:
            title = "".join(c for c in f"{offer.axis.title()}{offer.part.name.title()}" if c.isalnum())
            text = TEST.format(title=title, axis=offer.axis, name=offer.part.name, overrides=there)
            (Path(folder) / f"test_{title.lower()}.py").write_text(text, encoding="utf-8")
        return _run([folder], [module for offer in offers for module in offer.part.import_first])


def _check_folder(folder: Path, what: str) -> int:
    if not folder.is_dir():
        raise _unknown(what)
    if not any(folder.rglob("test_*.py")) and not any(folder.rglob("*_test.py")):
        raise UserError(f"{folder} holds no tests", "plugins check NAME, or begin as plugins new does: tests/test_*.py")
    return _run([str(folder)])


def _from_anywhere(override: str) -> str:
    """With a file that an option names made absolute: each check has a folder of its own.

    Example:
        >>> _from_anywhere("objective=core")
        'objective=core'
    """
    key, _, value = override.partition("=")
    file = os.path.expanduser(value)
    there = "." in key and value and os.path.exists(file)  # pathlib refuses long prompts
    return f"{key}={quoted(os.path.abspath(file))}" if there else override


def _offers(name: str) -> list[Offer]:
    registry = discover()
    return [registry.find(offer.axis, name) for offer in registry.offers if offer.part.name == name]


def _unknown(what: str) -> UserError:
    near = get_close_matches(what, {offer.part.name for offer in discover().offers}, 1)
    guess = f"did you mean {near[0]}?" if near else "python -m core plugins list, or the folder of a plugin"
    return UserError(f"no part and no folder is called {what}", guess)


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
