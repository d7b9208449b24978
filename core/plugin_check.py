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
from core.named import named
from core.overrides import quoted
from core.registry import Offer

TEST = """from core.testing.built_in import contract_of

made = contract_of({axis!r}, {name!r}, overrides={overrides!r})
globals()[made.__name__] = made
del made
"""


def check(what: str, overrides: Sequence[str]) -> int:
    """Run the kit and print its report.

    Args:
        what: A part's name, or the folder of a plugin with tests of its own; ``./NAME`` where it is both.
        overrides: What the part cannot run without, such as ``data.train=my.jsonl``.

    Returns:
        0 when all is green, else 1.

    Raises:
        UserError: there is no such part or folder, or one without tests, or pytest is not installed; the part cannot
            be offered.
    """
    needs_pytest()
    offers = [] if what.startswith(".") or os.sep in what else _offers(what)
    if not offers:
        return _check_folder(Path(what).expanduser().resolve(), what)
    there = [_from_anywhere(line) for line in overrides]
    with tempfile.TemporaryDirectory() as folder:
        for offer in offers:
            write_test(Path(folder), offer, there)
        return run([folder], [module for offer in offers for module in offer.part.import_first])


def needs_pytest() -> None:
    """Checks are tests.

    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec("pytest") is None:
        raise UserError("plugins check needs pytest", "pip install pytest")


def write_test(folder: Path, offer: Offer, overrides: Sequence[str]) -> Path:
    """A file with the test class of a part."""
    file = folder / f"test_{offer.axis}_{offer.part.name}.py"
    file.write_text(TEST.format(axis=offer.axis, name=offer.part.name, overrides=overrides), encoding="utf-8")
    return file


def _check_folder(folder: Path, what: str) -> int:
    if not folder.is_dir():
        raise _unknown(what)
    if not any(folder.rglob("test_*.py")) and not any(folder.rglob("*_test.py")):
        raise UserError(f"{folder} holds no tests", "plugins check NAME, or begin as plugins new does: tests/test_*.py")
    return run([str(folder)])


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
    found = [registry.find(offer.axis, name) for offer in named(registry, name)]
    for offer in found:
        registry.check_yaml(offer.axis, name)
        registry.options_class(offer)
    return found


def _unknown(what: str) -> UserError:
    near = get_close_matches(what, {offer.part.name for offer in discover().offers}, 1)
    guess = f"did you mean {near[0]}?" if near else "python -m core plugins list, or the folder of a plugin"
    return UserError(f"no part and no folder is called {what}", guess)


def run(places: Sequence[str], first: Sequence[str] = (), more: Sequence[str] = ()) -> int:
    """Let pytest run what is there.

    Args:
        places: Files and folders.
        first: Modules to import before the libraries.
        more: Further options.

    Returns:
        0 when all is green, else 1.
    """
    options = [*(word for module in first for word in ("-p", module))]
    options += [
        "-q",
        "-p",
        "core.testing.report",
        "-p",
        "no:cacheprovider",
        "--no-header",
        "--tb=short",
        "--show-capture=no",
        "-rN",
        "-o",
        "addopts=",
        "-o",
        "console_output_style=classic",
    ]
    done = subprocess.run([sys.executable, "-m", "pytest", *options, *more, *places], check=False)  # noqa: S603  # our words
    return 1 if done.returncode else 0
