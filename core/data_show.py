"""``data show``: the first rows as they are trained on, in the terminal or as a page."""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from core.compose import configure
from core.errors import UserError
from core.loading import import_first
from core.options import one_of
from core.quiet import hush
from core.verb_flags import take_flags, whole

FLAGS = {"--rows": "3", "--split": "validation", "--html": "rows.html"}
USAGE = "python -m core data show [KEY=VALUE ...] [--rows 3] [--split validation] [--html rows.html]"


def data(argv: Sequence[str]) -> int:
    """Do what was typed behind ``data``.

    Raises:
        UserError: there is no such command or flag, or the rows cannot be trained on.
    """
    word = argv[0] if argv else ""
    if word != "show":
        near = get_close_matches(word, ["show"], 1)
        what = f"data has no command {word}" if word else "data does one thing: show"
        raise UserError(what, f"did you mean data {near[0]}?" if near else USAGE)
    flags, overrides = take_flags("data show", argv[1:], FLAGS)
    rows = whole("--rows", flags.get("--rows", "3"))
    split = flags.get("--split", "train")
    one_of("--split", split, ("train", "validation"))
    page = Path(flags["--html"]).expanduser() if "--html" in flags else None
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--html {page} is no name of a page", f"--html {page.name}.html")
    _show(overrides, rows, split, page)
    return 0


def _show(overrides: Sequence[str], number: int, split: str, page: Path | None) -> None:
    """Print the rows, or write them.

    Raises:
        UserError: the rows cannot be trained on, or none are held out.
    """
    config = configure(overrides)
    hush()
    import_first(config.offers.values())
    from core import stages
    from core.data_page import write_page
    from core.data_print import print_examples
    from core.plan import make_plan
    from core.screen import console
    from core.shown import shown

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # rows hold what a terminal may have no letters for
    plan = make_plan(config)
    read = stages.read(plan)
    side = read.validation if split == "validation" else read.train
    if not len(side.examples):
        raise UserError("no rows are held out", "data.validation=FILE, or --split train")
    examples = list(shown(plan, side, number))
    screen = console()
    screen.print(f"rows  {read.summary}", markup=False, soft_wrap=True)
    for line in read.warnings:
        screen.print(f"  {line}", style="yellow", markup=False, soft_wrap=True)
    if plan.options.packing:
        screen.print("  data.packing lays rows together when they are trained; here each stands alone", style="dim")
    if page is not None:
        typed = shlex.join(["python", "-m", "core", "data", "show", *overrides])
        write_page(page, examples, f"the first rows of {split}", typed, read.summary, read.warnings)
        screen.print(f"wrote {page}", markup=False, soft_wrap=True)
        return
    print_examples(screen, examples)
