"""A signal ends a run in good order: after the step under way, with a checkpoint, or once the result is saved."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from core.errors import Interrupted


class StopOnSignal(Callback):
    """SIGINT and SIGTERM end the run after the step under way, with a checkpoint; a second one ends it at once.

    Attributes:
        file: Where the checkpoint is written.
        received: The signal that came.
        stopped: Whether training was ended by it.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.received: int | None = None
        self.stopped = False
        self.step = 0
        self._trainer: Trainer | None = None

    @contextmanager
    def listening(self) -> Generator[None]:
        """Take the signals while inside; outside the main thread (a notebook's, a server's) leave them alone.

        Raises:
            Interrupted: one came too late to stop the training; what is inside was done to its end.
        """
        try:
            before = {s: signal.signal(s, self._receive) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.received is not None:
            raise Interrupted(self.received)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            raise Interrupted(number)
        self.received = number

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning took the signals for itself when it started."""
        self.step = trainer.global_step
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._receive)
        except ValueError:
            pass

    def keep(self) -> None:
        """Write the checkpoint once training is over, for a result that could not be saved."""
        # all processes write one together, and the others have gone on
        if self._trainer is not None and self._trainer.world_size == 1:
            self._trainer.save_checkpoint(self.file)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Know whose checkpoint ``keep`` writes, also where no step is left to train."""
        self._trainer = trainer

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Save and stop at the end of a step, all ranks at the same one."""
        if trainer.global_step == self.step:
            return
        self.step = trainer.global_step
        came = self.received is not None
        if trainer.world_size > 1:
            came = trainer.strategy.reduce_boolean_decision(came, all=False)
        if came:
            trainer.save_checkpoint(self.file)
            trainer.should_stop = self.stopped = True
