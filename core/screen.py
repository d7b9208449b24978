"""What a command shows: lines that read well in a terminal, in a notebook and in a log file."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.contracts import Score


def console(quiet: bool = False) -> Console:
    """Standard output; as wide as needed when it is not a terminal, so that no line of a log is broken."""
    found = Console(highlight=False, quiet=quiet)
    return found if found.is_terminal or found.is_jupyter else Console(highlight=False, quiet=quiet, width=120)


def clock(seconds: float) -> str:
    """Minutes and seconds.

    Example:
        >>> clock(249.6)
        '4:10'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


@contextmanager
def timed(screen: Console, what: str) -> Generator[None]:
    """Print what is done and, when it is done, how long it took."""
    start = time.monotonic()
    if screen.is_terminal:
        with screen.status(what):
            yield
    else:
        yield
    screen.print(f"{what}  [dim]{time.monotonic() - start:.1f} s[/dim]")


def show_scores(screen: Console, before: Score | None, after: Score | None) -> None:
    """Before and after, side by side, with n, interval and a few answers; nothing where nothing was measured."""
    if after is None:
        return
    table = Table(title=None, show_edge=False, pad_edge=False)
    for heading in ("", "before", "after"):
        table.add_column(heading)
    for first, last in zip_longest(_values(before), _values(after)):
        table.add_row(f"{(last or first).name} (n={(last or first).n})", _value(first), _value(last))
    screen.print(table)
    if after.samples:
        _show_samples(screen, before.samples if before else (), after.samples)


def _values(score: Score | None) -> Sequence[Score]:
    return () if score is None else (score, *score.also)


def _value(score: Score | None) -> str:
    if score is None:
        return "-"
    value, low, high = (escape(score.shown(number)) for number in (score.value, score.low, score.high))
    return f"[bold]{value}[/bold]  ({low} to {high})"


def _show_samples(screen: Console, before: Sequence[Any], after: Sequence[Any]) -> None:
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("prompt", "wanted", "before", "after"):
        table.add_column(heading, overflow="fold", max_width=60 if heading == "prompt" else 20)
    given = {sample["prompt"]: sample["given"] for sample in before}
    for sample in after:
        cells = (sample["prompt"], sample["wanted"], given.get(sample["prompt"], "-"), sample["given"])
        table.add_row(*(_one_line(cell) for cell in cells))
    screen.print()
    screen.print(table)


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("[", "\\[")
