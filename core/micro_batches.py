"""Which examples make up each micro-batch, in which order, and which of them this process takes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.distributed
from torch.utils.data import Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from core.batch import LaidOut, Layout, lay_out
from core.contracts import Example
from core.groups import members
from core.trainer_options import TrainerOptions


def batches(
    examples: Sequence[Example],
    size: int,
    layout: Layout,
    pad: int,
    seed: int | None,
    limit: float | None = None,
    same: bool = False,
    drawn: Sequence[Sequence[int]] | range | None = None,
    least: int = 1,
) -> StatefulDataLoader[LaidOut]:
    """Micro-batches of ``size`` examples, or groups of them, in an order that depends on ``seed`` alone; None keeps it.

    ``limit`` is the trainer's: micro-batches of an epoch, or their share; ``same`` takes the same ones in each epoch;
    ``least`` is the fewest examples that the objective can compare.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*set_vital.*")  # torchdata's own business
        return StatefulDataLoader(
            cast(Any, examples),
            batch_sampler=MicroBatches(drawn or range(len(examples)), size, seed, limit, same, least),
            generator=torch.Generator().manual_seed(0),
            collate_fn=partial(lay_out, layout=layout, pad=pad),
        )


def order(examples: int, seed: int | None, epoch: int) -> list[int]:
    """Indices of the examples as they are trained in an epoch (from 0).

    Example:
        >>> order(4, None, 0), sorted(order(4, 1, 3)), order(4, 1, 0) == order(4, 1, 1)
        ([0, 1, 2, 3], [0, 1, 2, 3], False)
    """
    if seed is None:
        return list(range(examples))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epoch):
        torch.randperm(examples, generator=generator)
    return torch.randperm(examples, generator=generator).tolist()


class MicroBatches(Sampler[list[int]]):
    """Of each row of micro-batches, one a process, this process' own.

    So one step of two processes is the step of one process that accumulates two micro-batches. All processes must take
    equally many; where the last row is incomplete it is filled up with micro-batches from the start.
    """

    def __init__(
        self,
        drawn: Sequence[Sequence[int]] | range,
        size: int,
        seed: int | None,
        limit: float | None = None,
        same: bool = False,
        least: int = 1,
    ) -> None:
        self.drawn = drawn
        self.examples = len(drawn)
        self.size = size
        self.seed = seed
        self.limit = limit
        self.same = same
        self.least = least
        self.epoch = -1
        self.taken = 0
        self.resumed = False

    def __len__(self) -> int:
        """Micro-batches of this process in an epoch."""
        return math.ceil(self.examples / (self.size * _ranks()[1]))

    def __iter__(self) -> Iterator[list[int]]:
        """An epoch, or what is left of the one that a checkpoint was written in."""
        # an epoch may have been left before its end, or ended with a checkpoint
        if not self.resumed or self.taken >= limited(len(self), self.limit):
            self.epoch, self.taken = self.epoch + 1, 0
        self.resumed = False
        rank, ranks = _ranks()
        found = order(self.examples, self.seed, 0 if self.same else self.epoch)
        chunks = chunked(found, self.size, self.least)
        while self.taken < len(self):
            self.taken += 1
            yield members(self.drawn, chunks[((self.taken - 1) * ranks + rank) % len(chunks)])

    def state_dict(self) -> dict[str, int]:
        """How far it is."""
        return {"epoch": self.epoch, "taken": self.taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.epoch, self.taken, self.resumed = state["epoch"], state["taken"], True


def chunked(found: Sequence[int], size: int, least: int = 1) -> list[list[int]]:
    """Micro-batches in order; where the last one has too few, the last two share evenly, or it takes some again.

    Example:
        >>> chunked(range(9), 4), chunked(range(9), 4, least=2), chunked(range(5), 2, least=2)
        ([[0, 1, 2, 3], [4, 5, 6, 7], [8]], [[0, 1, 2, 3], [4, 5, 6], [7, 8]], [[0, 1], [2, 3], [4, 0]])
    """
    found = list(found)
    chunks = [found[start : start + size] for start in range(0, len(found), size)]
    if len(chunks) > 1 and len(chunks[-1]) < least:
        both = [*chunks[-2], *chunks[-1]]
        if len(both) >= 2 * least:
            half = -(-len(both) // 2)
            chunks[-2:] = [both[:half], both[half:]]
        else:
            chunks[-1] = [*chunks[-1], *found[: least - len(chunks[-1])]]
    return chunks


def _ranks() -> tuple[int, int]:
    """Number of this process and how many there are, once Lightning has brought them together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def limited(micro: int, limit: float | None) -> int:
    """Micro-batches of an epoch under the trainer's limit, a number of them or a share.

    Example:
        >>> limited(10, None), limited(10, 3), limited(10, 0.5), limited(10, 1.0)
        (10, 3, 5, 10)
    """
    if limit is None:
        return micro
    return min(micro, limit) if isinstance(limit, int) else int(micro * limit)


def steps(examples: int, batch_size: int, options: TrainerOptions, ranks: int = 1) -> int:
    """Optimizer steps of a run.

    Example:
        >>> from types import SimpleNamespace
        >>> o = SimpleNamespace(limit=1.0, accumulate_grad_batches=4, epochs=2, max_steps=-1)
        >>> steps(100, 8, o), steps(100, 8, o, ranks=2)
        (8, 4)
    """
    micro = limited(math.ceil(examples / (batch_size * ranks)), options.limit)
    epoch = -(-micro // options.accumulate_grad_batches)
    if options.epochs == -1:
        return options.max_steps
    return min(options.max_steps, epoch * options.epochs) if options.max_steps >= 0 else epoch * options.epochs
