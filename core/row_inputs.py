"""What a model takes: a padded row for each sequence, or one row of all, what they begin with there once or each time.

Shapes: S sequences, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

WORTH = 8
"""Tokens of a beginning from which on it is shared."""

MULTIPLE = 16
"""Of tokens in a row of sequences."""


def padded(ids: Sequence[Tensor], lengths_S: Tensor, stride: int, pad: int) -> dict[str, Any]:
    """A row for each sequence, filled up and masked."""
    rows_ST = torch.full((len(ids), stride), pad)
    for row, sequence in zip(rows_ST, ids, strict=True):
        row[: len(sequence)] = sequence
    mask_ST = (torch.arange(stride)[None] < lengths_S[:, None]).long()
    return {"input_ids": rows_ST, "attention_mask": mask_ST, "use_cache": False}


def apart(ids: Sequence[Tensor], firsts: Sequence[int], pad: int) -> dict[str, Any]:
    """One row with the boundaries of its sequences, each with the position of its first token.

    It ends with a sequence that nobody reads: products are quicker by a tenth where its length is even.
    """
    if fill := -sum(map(len, ids)) % MULTIPLE:
        ids, firsts = [*ids, torch.full((fill,), pad)], [*firsts, 0]
    lengths_S = torch.tensor([len(sequence) for sequence in ids])
    bounds = torch.nn.functional.pad(lengths_S.cumsum(0), (1, 0)).to(torch.int32)
    return concatenated(ids, firsts) | {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds}


def shared(ids: Sequence[Tensor], learned: Sequence[int], size: int, pad: int) -> tuple[dict[str, Any], list[Tensor]]:
    """For each example its beginning, where it has one, then what each of its sequences goes on with.

    Args:
        ids: Of all sequences, name by name.
        learned: Index of the first supervised token of each: what is predicted is not shared.
        size: How many examples.
        pad: Fills the row.

    Returns:
        The model's inputs, and the place of each token of each sequence.
    """
    pieces: list[Tensor] = []
    firsts: list[int] = []
    before: list[tuple[int, int]] = []
    places: dict[int, Tensor] = {}
    end = 0
    for example in range(size):
        mine = range(example, len(ids), size)
        common = beginning([ids[i] for i in mine], min(learned[i] for i in mine))
        start = end
        if common:
            pieces.append(ids[example][:common])
            firsts.append(0)
            before.append((0, 0))
            end += common
        for i in mine:
            own = ids[i][common:]
            pieces.append(own)
            firsts.append(common)
            before.append((start, start + common))
            places[i] = torch.cat([torch.arange(start, start + common), torch.arange(end, end + len(own))])
            end += len(own)
    inputs = apart(pieces, firsts, pad)
    rest = len(inputs["cu_seq_lens_q"]) - 1 - len(before)  # what fills the row
    return inputs | {"cu_seq_lens_k": [*before, *[(0, 0)] * rest]}, [places[i] for i in range(len(ids))]


def beginning(sequences: Sequence[Tensor], most: int) -> int:
    """How many tokens sequences share at their beginning; 0 where that is not worth it.

    Example:
        >>> one, two = torch.arange(20), torch.cat([torch.arange(12), torch.arange(3)])
        >>> beginning([one, two], 20), beginning([one, two], 9), beginning([one, two], 5), beginning([one], 20)
        (12, 9, 0, 0)
    """
    most = min(most, *(len(sequence) - 1 for sequence in sequences))  # each goes on with something
    if len(sequences) < 2 or most < WORTH:
        return 0
    differ = torch.stack([other[:most] != sequences[0][:most] for other in sequences[1:]]).any(0).nonzero()
    common = int(differ[0]) if len(differ) else most
    return common if common >= WORTH else 0


def concatenated(ids: Sequence[Tensor], firsts: Sequence[int]) -> dict[str, Any]:
    """One row, with positions that restart, each at the one given."""
    # no attention mask: one of ones would let the sequences attend to each other without a word
    positions = [first + torch.arange(len(one)) for first, one in zip(firsts, ids, strict=True)]
    return {
        "input_ids": torch.cat(list(ids))[None],
        "position_ids": torch.cat(positions)[None],
        "use_cache": False,
    }
