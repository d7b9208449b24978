"""Types of ``trainer.*``: those arguments of Lightning's Trainer that are plain values, without importing Lightning.

A test compares them, and the ones core keeps for itself, with Lightning's own signature.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from core.errors import UserError
from core.options import one_of, within

CORE_OWNS = frozenset(
    {
        "barebones", "callbacks", "default_root_dir", "enable_autolog_hparams", "enable_checkpointing",
        "enable_model_summary", "enable_progress_bar", "inference_mode", "limit_predict_batches", "limit_test_batches",
        "logger", "model_registry", "plugins", "precision", "reload_dataloaders_every_n_epochs", "sync_batchnorm",
        "use_distributed_sampler",
    }
)  # fmt: skip
"""Arguments that are no option: what they would set is a part, ``model.dtype``, or the core's own."""


AGAIN = "trainer.gradient_checkpointing"
OURS = frozenset({AGAIN.partition(".")[2]})
"""Options that are none of Lightning's."""

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
PROFILERS = ("simple", "advanced", "pytorch", "xla")
STRATEGIES = ("auto", "single_device", "ddp", "ddp_find_unused_parameters_true")
"""Those of Lightning's that leave each process a whole model: sharded ones would be saved in pieces."""


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """Values and comments are in ``conf/trainer/default.yaml``; meanings are Lightning's."""

    accelerator: str
    devices: Any  # "auto", a number or a list of indices
    num_nodes: int
    strategy: str
    max_epochs: int | None
    min_epochs: int | None
    max_steps: int
    min_steps: int | None
    max_time: str | None
    limit_train_batches: Any  # whole number of batches, or share
    limit_val_batches: Any
    overfit_batches: Any
    fast_dev_run: Any  # true, or a number of steps
    val_check_interval: Any
    check_val_every_n_epoch: int | None
    num_sanity_val_steps: int
    log_every_n_steps: int
    accumulate_grad_batches: int
    gradient_clip_val: float | None
    gradient_clip_algorithm: str | None
    deterministic: Any  # true, false or "warn"
    benchmark: bool | None
    detect_anomaly: bool
    gradient_checkpointing: bool
    profiler: str | None

    def __post_init__(self) -> None:
        self._check_words()
        self._check_numbers()
        if self.max_steps == 0 or self.max_epochs == 0:
            raise UserError("trainer.max_steps or max_epochs is 0: nothing would be trained", "trainer.max_steps=1000")
        if self.epochs == -1 and self.max_steps == -1:
            raise UserError("trainer.max_epochs=-1 never ends", "trainer.max_steps=1000")

    def _check_words(self) -> None:
        one_of("trainer.accelerator", self.accelerator, ACCELERATORS)
        one_of("trainer.strategy", self.strategy, STRATEGIES)
        for name, allowed in (("gradient_clip_algorithm", ("norm", "value")), ("profiler", PROFILERS)):
            value = getattr(self, name)
            if value is not None:
                one_of(f"trainer.{name}", value, allowed)
        if self.deterministic not in (True, False, None, "warn"):
            raise UserError(f"trainer.deterministic={self.deterministic} is not a choice", "true, false, null or warn")
        if self.max_time is not None and not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", self.max_time):
            raise UserError(f"trainer.max_time={self.max_time} is no time", "trainer.max_time=00:01:30:00 (days first)")
        _devices(self.devices)

    def _check_numbers(self) -> None:
        within("trainer.max_steps", self.max_steps, -1)
        within("trainer.accumulate_grad_batches", self.accumulate_grad_batches, 1)
        within("trainer.num_nodes", self.num_nodes, 1)
        if self.max_epochs is not None:
            within("trainer.max_epochs", self.max_epochs, -1)
        for name in ("limit_train_batches", "limit_val_batches", "overfit_batches", "val_check_interval"):
            _number(name, getattr(self, name))
        if self.gradient_clip_val is not None:
            within("trainer.gradient_clip_val", self.gradient_clip_val, 0)
        if not isinstance(self.fast_dev_run, int) or self.fast_dev_run < 0:
            raise UserError(f"trainer.fast_dev_run={self.fast_dev_run} is not a choice", "true, false or a number")
        within("trainer.num_sanity_val_steps", self.num_sanity_val_steps, -1)
        within("trainer.log_every_n_steps", self.log_every_n_steps, 0)
        for name, least in (("min_epochs", 0), ("min_steps", 0), ("check_val_every_n_epoch", 1)):
            if getattr(self, name) is not None:
                within(f"trainer.{name}", getattr(self, name), least)

    @property
    def epochs(self) -> int:
        """Epochs: as given, else 1, or without limit (-1) when steps are given."""
        if self.max_epochs is not None:
            return self.max_epochs
        return 1 if self.max_steps == -1 else -1

    @property
    def limit(self) -> int | float | None:
        """Micro-batches of an epoch, a number or a share; None is all."""
        return self.overfit_batches or self.limit_train_batches

    def arguments(self, partial_gradients: bool = False) -> dict[str, Any]:
        """Keyword arguments for Lightning's Trainer.

        Args:
            partial_gradients: Whether several processes train and some parameters get no gradient in some steps, which
                DDP must be told.
        """
        strategy = self.strategy
        if partial_gradients and strategy in ("auto", "ddp"):
            strategy = "ddp_find_unused_parameters_true"
        # the order of micro-batches is the core's own, and so is keeping to the first of them
        limits = {"limit_train_batches": self.limit, "overfit_batches": 0}
        theirs = {name: value for name, value in asdict(self).items() if name not in OURS}
        return theirs | limits | {"max_epochs": self.epochs, "strategy": strategy}


def _number(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"trainer.{name}={value!r} is no number", f"trainer.{name}=100 (batches) or 0.5 (a share)")
    within(f"trainer.{name}", value, 0, 1.0 if isinstance(value, float) else float(2**31))


def _devices(value: Any) -> None:
    indices: Any = value if isinstance(value, list) else []
    several = bool(indices) and all(isinstance(index, int) and index >= 0 for index in indices)
    number = isinstance(value, int) and not isinstance(value, bool) and (value == -1 or value > 0)
    if not (several or number or value == "auto"):
        raise UserError(
            f"trainer.devices={value} is not a choice", "trainer.devices=auto, 2 (how many) or [0,1] (which)"
        )
