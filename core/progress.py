"""How training gets on: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from core.lesson import Lesson
from core.screen import clock

EVERY = 15.0
"""Seconds between two lines when the output is no terminal."""


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
