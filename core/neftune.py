"""Noise on the embeddings while training (NEFTune, Jain et al. 2023, https://arxiv.org/abs/2310.05914, algorithm 1).

Shapes: S sequences, T tokens of all sequences together or of the longest, H hidden width.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from core.batch import LaidOut


@contextmanager
def noisy(inner: PreTrainedModel, batch: LaidOut, alpha: float) -> Generator[None]:
    """While inside and in train mode, embeddings get uniform noise in ``+- alpha / sqrt(length x H)``.

    The length is each sequence's own, so the noise of a row does not depend on what it is batched with.
    """
    if not alpha or not inner.training:
        yield
        return
    lengths = _lengths(batch)

    def add(_layer: nn.Module, _inputs: Any, embedded: Tensor) -> Tensor:
        reach = alpha / (lengths.to(embedded.device) * embedded.shape[-1]).sqrt()[..., None]
        return embedded + (torch.rand_like(embedded, dtype=torch.float32) * 2 - 1).mul(reach).to(embedded.dtype)

    handle = inner.get_input_embeddings().register_forward_hook(add)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue, reportUnknownMemberType, reportUnknownVariableType]
    try:
        yield
    finally:
        handle.remove()  # pyright: ignore[reportUnknownMemberType]


def _lengths(batch: LaidOut) -> Tensor:
    """How long the sequence of each token is: (1, T) or (S, 1)."""
    ends_S = batch.ends_S
    if batch.layout == "padded":
        stride = batch.inputs["input_ids"].shape[1]
        return (ends_S - torch.arange(len(ends_S), device=ends_S.device) * stride + 1)[:, None]
    row = ends_S.new_tensor([batch.inputs["input_ids"].shape[1] - 1])  # what fills its end is a sequence like others
    lengths_S = torch.diff(torch.cat([ends_S, row]), prepend=ends_S.new_tensor([-1]))
    return lengths_S.repeat_interleave(lengths_S)[None]
