"""The one ``Context`` of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core.batch import Layout, lay_out
from core.contracts import Batch, Context, Example, Head, Loader, ModelFacts, Objective, Row, Tokens
from core.logprobs import token_logprobs
from core.rows import row_key

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedTokenizerBase


@dataclass
class RunContext(Context):
    """What a part may ask of its run.

    Attributes:
        examples: The training examples, reference values included.
        order: Indices of the examples in the order they are trained.
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
            chosen = [self.examples[i] for i in self.order[start : start + self.batch_size]]
            yield lay_out(chosen, self.layout, self.pad).to(self.device)

    def losses(self, model: nn.Module, rows: Sequence[Row]) -> Iterator[tuple[float, float]]:
        """``(total, items)`` of the objective for each row, without gradient, reference included.

        An objective that compares examples gets as many as it needs; each row has its share of their loss.

        Raises:
            ValueError: the objective has a reference, and a row is none of those held out.
        """
        size = self.objective.smallest_batch
        starts = range(0, max(1, len(rows) - size + 1), size)  # the last batch takes what is left over
        for start in starts:
            some = rows[start:] if start == starts[-1] else rows[start : start + size]
            batch = lay_out([self._example(row) for row in some], self.layout, self.pad).to(self.device)
            with torch.no_grad():
                loss = self.objective.loss(model, batch)
            yield from [(float(loss.total) / len(some), float(loss.items) / len(some))] * len(some)

    def _example(self, row: Row) -> Example:
        if type(self.objective).reference is Objective.reference:
            return cut(self.objective.encode(row, self.tokenizer), self.max_length)
        found = self.referenced.get(row_key(row))
        if found is None:
            raise ValueError("losses of an objective with a reference are known for held-out rows only")
        return found

    def wrap_peft(self, model: nn.Module, config: PeftConfig) -> PeftModel:
        """The loader's way to put an adapter in."""
        return self.loader.wrap_peft(model, config, self.adapter)


def cut(example: Example, max_length: int) -> Example:
    """The example with each sequence cut from its end."""
    return {
        name: Tokens(value.ids[:max_length], value.loss_weights[:max_length]) if isinstance(value, Tokens) else value
        for name, value in example.items()
    }


def with_reference(
    model: nn.Module, examples: Sequence[Example], objective: Objective, layout: Layout, pad: int, size: int
) -> list[Example]:
    """The examples with the objective's reference values as further numbers, computed by ``model`` as it stands.

    In train mode with dropout off: int8 layers differ between the modes, and the loss must start where it should.
    """
    device = next(model.parameters()).device
    dropouts = [(module, module.p) for module in model.modules() if isinstance(module, nn.Dropout)]
    for module, _ in dropouts:
        module.p = 0.0
    was_training = model.training
    model.train()
    found: list[Example] = []
    try:
        for start in range(0, len(examples), size):
            some = examples[start : start + size]
            with torch.no_grad():
                batch = lay_out(some, layout, pad).to(device)
                values: Mapping[str, Tensor] = objective.reference(token_logprobs(model, batch))
            columns = {name: value.tolist() for name, value in values.items()}
            found += [{**example, **{n: c[i] for n, c in columns.items()}} for i, example in enumerate(some)]
    finally:
        model.train(was_training)
        for module, p in dropouts:
            module.p = p
    return found
