"""Examples laid out as one batch: concatenated without padding, or one padded row a sequence.

Shapes: B examples, S sequences (B times the names), T tokens of all sequences together or of the longest, N supervised
tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from core import row_inputs
from core.contracts import Batch, Example, Tokens

Layout = Literal["shared", "apart", "masked", "padded"]
"""How sequences share a batch: ``apart`` (one row, attention run per sequence), ``shared`` (the same, but what the
sequences of an example begin with is there once: Wang and Hegde 2024, https://arxiv.org/abs/2410.20305), ``masked``
(one row, transformers builds the block-diagonal mask from positions that restart), ``padded`` (one row each)."""


@dataclass(frozen=True)
class LaidOut(Batch):
    """A batch as the core lays it out.

    Attributes:
        size: B.
        inputs: What ``model(**inputs)`` takes.
        numbers: Name -> (B,).
        layout: How the sequences lie in ``inputs``.
        names: Names of the sequences of an example, in order.
        tokens: Real tokens, padding left out.
        sources_N: Where in the flattened hidden states each supervised token is predicted.
        targets_N: Its id.
        loss_weights_N: Its weight.
        owners_N: Which sequence it belongs to: index of the name times B plus index of the example.
        ends_S: Position of the last token of each sequence, in the order of ``owners_N``.
        examples: What was laid out, where sequences share their beginnings: it can then be laid out otherwise.
    """

    size: int
    inputs: Mapping[str, Any]
    numbers: Mapping[str, Tensor]
    layout: Layout
    names: tuple[str, ...]
    tokens: int
    sources_N: Tensor
    targets_N: Tensor
    loss_weights_N: Tensor
    owners_N: Tensor
    ends_S: Tensor
    examples: Sequence[Example] = ()

    def ends(self, name: str) -> Tensor:
        """(B,) positions of the last token of each sequence ``name`` in the flattened hidden states."""
        return self.ends_S.view(len(self.names), self.size)[self.names.index(name)]

    def only(self, name: str) -> LaidOut:
        """The same examples with the sequences ``name`` alone."""
        if self.layout == "shared":
            mine = lay_out([_only(example, name) for example in self.examples], "apart")
            return replace(mine.to(self.sources_N.device), numbers=self.numbers, tokens=0)
        at = self.names.index(name)
        sequences = slice(at * self.size, (at + 1) * self.size)
        mine_N = self.owners_N // self.size == at
        if self.layout == "padded":
            start = at * self.size * self.inputs["input_ids"].shape[1]
            inputs = {k: v[sequences] if isinstance(v, Tensor) else v for k, v in self.inputs.items()}
        else:
            start = int(self.ends_S[sequences.start - 1]) + 1 if at else 0
            rows = slice(start, int(self.ends_S[sequences.stop - 1]) + 1)
            inputs = {k: v[:, rows] if k.endswith("_ids") else v for k, v in self.inputs.items()}
            bounds = {k: v[sequences.start : sequences.stop + 1] for k, v in inputs.items() if k.startswith("cu_seq")}
            inputs |= {k: v - v[0] for k, v in bounds.items()}
        return replace(
            self,
            inputs=inputs,
            names=(name,),
            tokens=0,  # counted in the whole batch
            sources_N=self.sources_N[mine_N] - start,
            targets_N=self.targets_N[mine_N],
            loss_weights_N=self.loss_weights_N[mine_N],
            owners_N=self.owners_N[mine_N] - sequences.start,
            ends_S=self.ends_S[sequences] - start,
        )

    def to(self, device: torch.device | str, **kwargs: Any) -> LaidOut:
        """The same batch on another device; boundaries of sequences stay where the CPU can read them."""

        def move(value: Any) -> Any:
            return value.to(device, **kwargs) if isinstance(value, Tensor) else value

        fields = ("sources_N", "targets_N", "loss_weights_N", "owners_N", "ends_S")
        return replace(
            self,
            inputs={k: v if k.startswith("cu_seq_lens") else move(v) for k, v in self.inputs.items()},
            numbers={k: move(v) for k, v in self.numbers.items()},
            **{name: move(getattr(self, name)) for name in fields},
        )


def lay_out(examples: Sequence[Example], layout: Layout, pad: int = 0) -> LaidOut:
    """Lay examples out as one batch.

    Args:
        examples: B of them, all with the same names.
        layout: How.
        pad: Token id that fills padded rows, where it is masked, and the last few places of a row of sequences.

    Example:
        >>> one = {"completion": Tokens([5, 6, 7], [0.0, 1.0, 1.0])}
        >>> two = {"completion": Tokens([8, 9], [0.0, 1.0])}
        >>> batch = lay_out([one, two], "apart")
        >>> batch.inputs["input_ids"][0, :7].tolist(), batch.inputs["position_ids"][0, :7].tolist()
        ([5, 6, 7, 8, 9, 0, 0], [0, 1, 2, 0, 1, 0, 1])
        >>> batch.sources_N.tolist(), batch.targets_N.tolist()
        ([0, 1, 3], [6, 7, 9])
    """
    names = tuple(name for name, value in examples[0].items() if isinstance(value, Tokens))
    sequences = [_tokens(example[name]) for name in names for example in examples]
    ids = [torch.as_tensor(sequence.ids, dtype=torch.long) for sequence in sequences]
    weights = [torch.as_tensor(sequence.loss_weights, dtype=torch.float32) for sequence in sequences]
    # the first token of a sequence has nothing before it that could predict it
    at = [weight[1:].nonzero()[:, 0] + 1 for weight in weights]
    lengths_S = torch.tensor([len(sequence) for sequence in ids])
    if layout == "shared":
        learned = [int(i[0]) if len(i) else len(weight) for i, weight in zip(at, weights, strict=True)]
        inputs, places = row_inputs.shared(ids, learned, len(examples), pad)
    else:
        stride = int(lengths_S.max())
        starts_S = torch.arange(len(ids)) * stride if layout == "padded" else lengths_S.cumsum(0) - lengths_S
        places = [start + torch.arange(len(sequence)) for start, sequence in zip(starts_S, ids, strict=True)]
        firsts = [0] * len(ids)
        if layout == "padded":
            inputs = row_inputs.padded(ids, lengths_S, stride, pad)
        elif layout == "masked":
            inputs = row_inputs.concatenated(ids, firsts)
        else:
            inputs = row_inputs.apart(ids, firsts, pad)
    return LaidOut(
        size=len(examples),
        inputs=inputs,
        numbers=_numbers(examples),
        layout=layout,
        names=names,
        tokens=int(lengths_S.sum()),
        sources_N=torch.cat([place[i - 1] for i, place in zip(at, places, strict=True)]),
        targets_N=torch.cat([sequence[i] for sequence, i in zip(ids, at, strict=True)]),
        loss_weights_N=torch.cat([weight[i] for weight, i in zip(weights, at, strict=True)]),
        owners_N=torch.repeat_interleave(torch.arange(len(ids)), torch.tensor([len(i) for i in at])),
        ends_S=torch.stack([place[-1] for place in places]),
        examples=examples if layout == "shared" else (),
    )


def _tokens(value: Tokens | int | float) -> Tokens:
    assert isinstance(value, Tokens), "an objective's examples all have the same names"
    return value


def _only(example: Example, name: str) -> Example:
    return {key: value for key, value in example.items() if key == name or not isinstance(value, Tokens)}


def _numbers(examples: Sequence[Example]) -> dict[str, Tensor]:
    names = [name for name, value in examples[0].items() if not isinstance(value, Tokens)]
    return {name: torch.tensor([float(example[name]) for example in examples]) for name in names}  # pyright: ignore[reportArgumentType]
