"""Lightning's view of a profile: which steps are looked at, and where in a step the optimizer begins."""

from __future__ import annotations

import time
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.profiler import profile, record_function

from core.lesson import Lesson

WARM_UP = 1
"""Steps before the first that is looked at: they choose kernels, allocate memory and compare layouts."""

GRADIENTS_ARE_THERE = "gradients are there"
"""What marks the place in a step; Lightning runs forward and backward inside the optimizer's own step."""


class SeenEnoughError(Exception):
    """All steps were looked at: the run ends here, and nothing of it is kept."""


class Profiled(Callback):
    """Looks at a few steps, then ends the run with ``SeenEnoughError``.

    Attributes:
        steps: How many.
        profiler: What it saw.
        seconds: They took, all together.
        tokens: They trained on.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.profiler = profile(acc_events=True)
        self.seconds = 0.0
        self.tokens = 0.0
        self.began: float | None = None
        self.step = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Begin with the first step after the warm-up."""
        if trainer.global_step == WARM_UP and self.began is None:
            self.profiler.start()
            self.began = _now()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Mark the place."""
        with record_function(GRADIENTS_ARE_THERE):
            pass

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Count a step, and end the run after the last.

        Raises:
            SeenEnoughError: it was the last.
        """
        if trainer.global_step == self.step:
            return
        self.step = trainer.global_step
        if self.began is None:
            return
        self.tokens += cast(Lesson, pl_module).last["tokens"]
        if self.step == WARM_UP + self.steps:
            self.seconds = _now() - self.began
            self.profiler.stop()
            self.began = None
            raise SeenEnoughError

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop looking when the run ends early."""
        if self.began is not None:
            self.profiler.stop()
            self.began = None


def _now() -> float:
    """Seconds, once the device has done what it was given."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
