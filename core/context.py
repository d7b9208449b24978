"""The one ``Context`` of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from core.batch import Layout, lay_out
from core.contracts import Batch, Context, Example, Head, Loader, Loss, ModelFacts, Objective, Row
from core.fitted import fitted
from core.groups import members
from core.returned import loss_of
from core.row_file import row_key

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedTokenizerBase


@dataclass
class RunContext(Context):
    """What a part may ask of its run.

    Attributes:
        examples: The training examples, reference values included.
        drawn: Examples of each group that is drawn; a range stands for groups of one.
        order: Indices of the groups in the order they are trained.
        referenced: Held-out examples by the key of their row, where the objective has a reference.
        layout: How batches lie; ``padded`` until the model was asked.
    """

    seed: int
    adapter: str
    continuing: bool
    counting: bool
    total_steps: int
    head: Head
    facts: ModelFacts
    tokenizer: PreTrainedTokenizerBase
    loader: Loader
    objective: Objective
    examples: Sequence[Example]
    drawn: Sequence[Sequence[int]] | range
    order: Sequence[int]
    batch_size: int
    max_length: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    referenced: Mapping[str, Example] = field(default_factory=dict[str, Example])
    layout: Layout = "padded"

    @property
    def pad(self) -> int:
        """Token id that fills padded rows, where it is masked."""
        for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if isinstance(token, int):
                return token
        return 0

    def batches(self, count: int) -> Iterator[Batch]:
        """The first ``count`` training batches, on the model's device."""
        for start in range(0, min(count * self.batch_size, len(self.order)), self.batch_size):
            some = self.order[start : start + self.batch_size]
            chosen = [self.examples[i] for i in members(self.drawn, some)]
            yield lay_out(chosen, self.layout, self.pad).to(self.device)

    def losses(self, model: nn.Module, rows: Sequence[Row]) -> Iterator[tuple[float, float]]:
        """``(total, items)`` of the objective for each row, without gradient, reference included.

        An objective that compares examples gets as many as it needs; each row has its share of their loss.

        Raises:
            ValueError: the objective has a reference, and a row is none of those held out.
        """
        for some, loss in self._by_few(model, rows):
            yield from [(float(loss.total) / some, float(loss.items) / some)] * some

    def measures(self, model: nn.Module, rows: Sequence[Row]) -> Iterator[Mapping[str, float]]:
        """``Loss.metrics`` of the objective for each row, each divided by its items."""
        for some, loss in self._by_few(model, rows):
            means = {name: float(total) / float(items) for name, (total, items) in loss.metrics.items() if float(items)}
            yield from [means] * some

    def _by_few(self, model: nn.Module, rows: Sequence[Row]) -> Iterator[tuple[int, Loss]]:
        """Rows of a batch and their loss, as few as the objective can work on."""
        size = self.objective.smallest_batch
        starts = range(0, max(1, len(rows) - size + 1), size)  # the last batch takes what is left over
        for start in starts:
            some = rows[start:] if start == starts[-1] else rows[start : start + size]
            examples = [example for row in some for example in self._examples(row)]
            with torch.no_grad():
                batch = lay_out(examples, self.layout, self.pad).to(self.device)
                yield len(some), loss_of(self.objective, model, batch)

    def _examples(self, row: Row) -> Sequence[Example]:
        if type(self.objective).reference is Objective.reference:
            example = self.objective.encode(row, self.tokenizer)
            return fitted(example, self.max_length, split=self.objective.too_long == "split")
        found = self.referenced.get(row_key(row))
        if found is None:
            raise ValueError("losses of an objective with a reference are known for held-out rows only")
        return [found]

    def wrap_peft(self, model: nn.Module, config: PeftConfig) -> PeftModel:
        """The loader's way to put an adapter in; peft's while it is only counted, on a model that no loader made."""
        if self.counting:
            return Loader.wrap_peft(self.loader, model, config, self.adapter)
        return self.loader.wrap_peft(model, config, self.adapter)
