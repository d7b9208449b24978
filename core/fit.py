"""Training: Lightning's Trainer, and the callbacks that watch it."""

from __future__ import annotations

import logging
import random
import signal
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torchdata.stateful_dataloader import StatefulDataLoader

from core.batch import LaidOut
from core.errors import Interrupted, UserError
from core.lesson import Lesson, MeanGradients
from core.stop import StopOnSignal


def fit(
    lesson: Lesson,
    train: StatefulDataLoader[LaidOut],
    validation: StatefulDataLoader[LaidOut] | None,
    trainer_arguments: Mapping[str, Any],
    dtype: torch.dtype,
    stop: StopOnSignal,
    log: Callable[[Mapping[str, Any]], None],
    watching: Sequence[Callback],
    resume: Path | None = None,
) -> None:
    """Train.

    Args:
        lesson: What to train.
        train: Micro-batches.
        validation: Micro-batches of the validation passes that ``trainer_arguments`` ask for.
        trainer_arguments: Of Lightning's Trainer.
        dtype: What products are computed in; trained weights are float32.
        stop: Ends the run with a checkpoint when a signal came; it is listening.
        log: Called with each line of ``metrics.jsonl``.
        watching: Callbacks that look on.
        resume: A checkpoint to go on from.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the checkpoint is written.
        UserError: the trainer's limits left not one step to make.
    """
    precision = {torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed"}.get(dtype, "32-true")
    with quiet():
        trainer = Trainer(
            **trainer_arguments,
            precision=cast(Any, precision),
            callbacks=[
                MeanGradients(),
                RandomState(),
                *lesson.method.callbacks(lesson.context),
                StepLog(log),
                *watching,
                stop,
            ],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=stop.file.parent,
            use_distributed_sampler=False,  # the loader's order knows about ranks
        )
        lesson.train()
        try:
            trainer.fit(lesson, train, validation, ckpt_path=resume, weights_only=True if resume else None)
        except SystemExit:  # what Lightning makes of an interruption
            raise Interrupted(stop.received or signal.SIGINT) from None
    if stop.stopped:
        raise Interrupted(stop.received or signal.SIGINT)
    if not trainer.global_step:
        raise UserError("training ended before its first step", "trainer.max_time=null, or a longer one")


@contextmanager
def quiet() -> Generator[None]:
    """Keep Lightning's tips, device lines and warnings about settings of ours from the user."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero", "lightning")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", module=r"torchdata\..*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


class StepLog(Callback):
    """One line of ``metrics.jsonl`` for each optimizer step and each validation pass."""

    def __init__(self, log: Callable[[Mapping[str, Any]], None]) -> None:
        self.write = log  # not self.log: Lightning puts its own function there
        self.since = 0.0
        self.step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.since = time.perf_counter()
        self.step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Log when the batch ended a step; its time includes waiting for data."""
        if trainer.global_step == self.step:
            return
        now = time.perf_counter()
        last = cast(Lesson, pl_module).last
        last["lr"] = _lr_used(trainer)
        last["seconds"] = now - self.since
        self.since, self.step = now, trainer.global_step
        self.write({"split": "train", "step": self.step, **_rounded(last)})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the pass and start anew."""
        lesson = cast(Lesson, pl_module)
        if lesson.validation.tokens:
            self.write(
                {"split": "validation", "step": trainer.global_step, **_rounded(lesson.validation.reduced(lesson))}
            )
        lesson.validation = type(lesson.validation)()
        self.since = time.perf_counter()


def _lr_used(trainer: Trainer) -> float:
    """The rate of the step that just ended; the schedule has moved on already."""
    schedule: Any = trainer.lr_scheduler_configs[0].scheduler
    group = trainer.optimizers[0].param_groups[0]
    return group["initial_lr"] * schedule.lr_lambdas[0](trainer.global_step - 1)


def _rounded(means: Mapping[str, float]) -> dict[str, Any]:
    whole = {"items", "tokens"}
    return {k: int(v) if k in whole and float(v).is_integer() else float(f"{v:.8g}") for k, v in means.items()}


class RandomState(Callback):
    """The random generators travel with a checkpoint, so that a resumed run continues as if it had not stopped."""

    def state_dict(self) -> dict[str, Any]:
        """Plain containers and tensors, which load with ``weights_only``."""
        version, internal, gauss = random.getstate()
        kind, keys, at, has_gauss, cached = cast(Any, np.random.get_state())
        state = {
            "torch": torch.get_rng_state(),
            "python": [version, list(internal), gauss],
            "numpy": [kind, [int(key) for key in keys], at, has_gauss, cached],
        }
        return state | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put them back when training starts: what lies between would move them."""
        self.state = state_dict

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Put back what a checkpoint brought, once; an epoch that goes on has no start."""
        state = self.__dict__.pop("state", None)
        if state is None:
            return
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
        kind, keys, at, has_gauss, cached = state["numpy"]
        np.random.set_state((kind, np.array(keys, dtype=np.uint32), at, has_gauss, cached))
        torch.set_rng_state(state["torch"])
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])
