"""Types of the values that core owns; the values themselves, with a comment each, are in ``conf/``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar

from core.errors import UserError


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a word that is not allowed, naming those that are.

    Raises:
        UserError: ``value`` is not in ``allowed``.
    """
    if value not in allowed:
        raise UserError(f"{key}={value} is not a choice", f"{key}=" + "|".join(allowed))


def within(key: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a number outside ``low <= value <= high``, nan and infinity included.

    Raises:
        UserError: ``value`` is outside, or not finite.
    """
    if not (math.isfinite(value) and low <= value <= high):
        limits = f"from {low:g} to {high:g}" if math.isfinite(high) else f"{low:g} or more"
        raise UserError(f"{key}={value:g} is out of range", f"give {key} a number {limits}")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which weights. ``conf/model/*.yaml`` has the values.

    Attributes:
        path: Hub id, folder, ``.gguf`` file, run folder, or ``pkg://package/file`` for a file inside a package.
        revision: Branch, tag or commit of a hub id.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        trust_remote_code: Whether code that comes with the weights may run.
    """

    path: str
    revision: str | None
    dtype: str
    trust_remote_code: bool

    def __post_init__(self) -> None:
        one_of("model.dtype", self.dtype, ("auto", "float32", "bfloat16", "float16"))
        if not self.path:
            raise UserError("model.path is empty", "model.path=FOLDER, a hub id, or a .gguf file")


FORMATS = ("preference", "messages", "sharegpt", "alpaca", "prompt-completion", "unpaired", "text")
"""What ``data.format`` may be, beside ``auto``."""

COLUMNS = ("messages", "prompt", "completion", "chosen", "rejected", "label", "text", "tools", "weight")
"""Canonical columns, as rows have them after their format is known; the keys of ``data.columns``."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Shared by the options of every data source. ``conf/data/common.yaml`` has the values.

    Attributes:
        batch_size: Examples of one micro-step in one process.
        max_length: Longest sequence, tokens; longer ones are cut from the end.
        on_bad_row: ``stop`` or ``skip``.
        format: ``auto`` or one of ``FORMATS``.
        columns: Canonical column -> column of the file.
        system: System message of rows that have none; empty takes away those that are there.
        holdout: Share of rows held out when there is no validation file.
        group: Column whose values are held out whole.
        max_rows: Rows to train on, at most.
        tolerance: Largest share of rows that may be skipped, cut, endless or held out though they are trained on.
        packing: Whether batches count rows of ``max_length`` tokens in place of examples.
        cache: Whether encoded rows are kept for the next run.
    """

    free: ClassVar = frozenset({"system", "group"})

    batch_size: int
    max_length: int
    on_bad_row: str
    format: str
    columns: dict[str, str]
    system: str | None
    holdout: float
    group: str | None
    max_rows: int | None
    tolerance: float
    packing: bool
    cache: bool

    def __post_init__(self) -> None:
        within("data.batch_size", self.batch_size, 1)
        within("data.max_length", self.max_length, 2)
        one_of("data.on_bad_row", self.on_bad_row, ("stop", "skip"))
        one_of("data.format", self.format, ("auto", *FORMATS))
        for column, theirs in self.columns.items():
            if column not in COLUMNS:
                near = get_close_matches(column, COLUMNS, 1)
                guess = f"did you mean data.columns.{near[0]}?  " if near else ""
                raise UserError(
                    f"data.columns.{column}={theirs}: there is no such column",
                    f"{guess}data.columns.{'|'.join(COLUMNS)}",
                )
        within("data.holdout", self.holdout, 0, 0.9)
        if self.max_rows is not None:
            within("data.max_rows", self.max_rows, 1)
        within("data.tolerance", self.tolerance, 0, 1)


@dataclass(frozen=True, kw_only=True)
class OptimOptions:
    """Shared by the options of every optimizer. ``conf/optim/common.yaml`` has the values.

    Attributes:
        lr: Peak learning rate; the core fills it before this object is made when the yaml says null.
        weight_decay: Decoupled, per step times lr.
        schedule: ``constant``, ``linear`` or ``cosine``.
        warmup: Share of the steps, 0 to 1.
    """

    lr: float
    weight_decay: float
    schedule: str
    warmup: float

    def __post_init__(self) -> None:
        within("optim.lr", self.lr, 0)
        within("optim.weight_decay", self.weight_decay, 0)
        one_of("optim.schedule", self.schedule, ("constant", "linear", "cosine"))
        within("optim.warmup", self.warmup, 0, 1)


@dataclass(frozen=True, kw_only=True)
class MetricOptions:
    """Shared by the options of every metric. ``conf/metric/common.yaml`` has the values.

    Attributes:
        rows: Held-out rows to measure, at most.
    """

    rows: int

    def __post_init__(self) -> None:
        within("metric.rows", self.rows, 1)
