"""What a run shows: lines that read well in a terminal, in a notebook and in a log file."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from core.contracts import Score
from core.lesson import Lesson

EVERY = 15.0
"""Seconds between two lines when the output is no terminal."""


def console(quiet: bool = False) -> Console:
    """Standard output; as wide as needed when it is not a terminal, so that no line of a log is broken."""
    found = Console(highlight=False, quiet=quiet)
    return found if found.is_terminal or found.is_jupyter else Console(highlight=False, quiet=quiet, width=120)


class ProgressBar(Callback):
    """Loss, tokens per second and time left: a bar in a terminal, a line now and then elsewhere."""

    def __init__(self, screen: Console, total: int) -> None:
        self.screen = screen
        self.total = total
        self.recent: deque[tuple[float, float]] = deque(maxlen=20)
        self.bar: Progress | None = None
        self.task: Any = None
        self.shown = 0.0
        self.step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        self.shown = time.monotonic()
        self.step = trainer.global_step
        if self.screen.is_terminal:
            columns = [TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}")]
            self.bar = Progress(*columns, TimeRemainingColumn(), console=self.screen)
            self.task = self.bar.add_task("", total=self.total, completed=self.step, state="")
            self.bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Show the step that ended."""
        if trainer.global_step == self.step:
            return
        self.step = trainer.global_step
        last = cast(Lesson, pl_module).last
        self.recent.append((last["tokens"], last["seconds"]))
        speed = sum(t for t, _ in self.recent) / sum(s for _, s in self.recent)
        state = f"loss {last['loss']:.3f}  {speed:,.0f} tokens/s"
        if self.bar is not None:
            self.bar.update(self.task, completed=self.step, state=state)
        elif time.monotonic() - self.shown >= EVERY or self.step in (1, self.total):
            self.shown = time.monotonic()
            left = (self.total - self.step) * sum(s for _, s in self.recent) / len(self.recent)
            self.screen.print(f"  step {self.step:>{len(str(self.total))}}/{self.total}  {state}  {clock(left)} left")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the terminal is whole again."""
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


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
