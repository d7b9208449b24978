"""What a training step keeps for its way back, counted without computing anything.

The forward runs on tensors without data; autograd says what it would save. Whatever a method adds is seen as it is. Of
blocks that are alike the first three are run: each further one keeps what the third one did.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.multiprocessing.reductions import StorageWeakRef

from core import checkpointing, logprobs
from core.alike import alike, only
from core.batch import LaidOut
from core.contracts import Objective
from core.ending import candidates
from core.logprobs import token_logprobs
from core.weightless import as_if_real


class Lengths:
    """Boundaries of sequences that are read on the CPU: a tensor without data could not be."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths

    def diff(self) -> Lengths:
        """Themselves."""
        return self

    def tolist(self) -> list[int]:
        """The lengths."""
        return self.lengths


def kept_bytes(
    model: nn.Module, objective: Objective, batch: LaidOut, dtype: torch.dtype, holding: Sequence[nn.Module] = ()
) -> int:
    """Bytes that a micro-batch's forward keeps beside weights and buffers.

    Args:
        model: On the meta device, the method applied; it is not usable afterwards.
        objective: What is computed.
        batch: The micro-batch.
        dtype: What products are computed in.
        holding: Layers that keep their input, whatever autograd says: those of some quantizers.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    as_if_real(model, mode)
    inner = logprobs.output_model(model)
    logprobs.assume(inner, candidates(inner.config)[0])
    model.train()
    shapes = _without_data(batch, mode)

    def all_run(holding: Sequence[nn.Module]) -> int:
        autocast = torch.autocast("cpu", dtype, enabled=dtype != torch.float32)
        with _counting(model, holding) as kept, mode, autocast:
            loss = _loss(model, objective, shapes)
        del loss
        return sum(storage.nbytes() for storage in kept.values())

    def counted(holding: Sequence[nn.Module]) -> int:
        if (blocks := alike(model, holding)) is None:
            return all_run(holding)
        with only(blocks, 2):  # the first may keep less: nothing before it may be trained
            two = all_run(holding)
        with only(blocks, 3):
            three = all_run(holding)
        return three + (len(blocks) - 3) * (three - two)

    if not (blocks := checkpointing.again(model)):
        return counted(holding)
    lean = counted([*holding, *blocks])
    checkpointing.switch(model, on=False)
    # on the way back one block at a time has all of its own; before it, autocast keeps what it made of trained weights
    one = (counted(holding) - lean) // len(blocks)
    trained = sum(p.numel() for block in blocks for p in block.parameters() if p.requires_grad)
    return lean + max(one, 0 if dtype == torch.float32 else dtype.itemsize * trained)


@contextmanager
def _counting(model: nn.Module, holding: Sequence[nn.Module]) -> Generator[Mapping[int, Any]]:
    """What is kept while inside: place -> storage, which is held so that no other gets its place."""
    own = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        if (place := _storage(tensor)) not in own:
            kept[place] = tensor.untyped_storage()
        return tensor

    hooks = [layer.register_forward_pre_hook(lambda _layer, inputs: _discard(keep(inputs[0]))) for layer in holding]
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _storage(tensor: Tensor) -> int:
    return StorageWeakRef(tensor.untyped_storage()).cdata


def _discard(_value: object) -> None:
    """A hook that returns something changes the input."""


def _loss(model: nn.Module, objective: Objective, batch: LaidOut) -> Any:
    try:
        if type(objective).reference is not Objective.reference:
            with torch.no_grad():
                batch = replace(batch, numbers={**batch.numbers, **objective.reference(token_logprobs(model, batch))})
        return objective.loss(model, batch)
    except (
        DataDependentOutputException,
        DynamicOutputShapeException,
        LookupError,
        ValueError,
    ):  # it reads a number, or a sequence that nobody could encode
        return token_logprobs(model, batch).logprobs_N.sum()


def _without_data(batch: LaidOut, mode: FakeTensorMode) -> LaidOut:
    def faked(name: str, value: Any) -> Any:
        if name.startswith("cu_seq_lens") and isinstance(value, Tensor):
            return Lengths(value.diff().tolist())
        return mode.from_tensor(value) if isinstance(value, Tensor) else value

    def each(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: faked(name, value) for name, value in values.items()}

    fields = ("sources_N", "targets_N", "loss_weights_N", "owners_N", "ends_S")
    return replace(
        batch,
        inputs=each(batch.inputs),
        numbers=each(batch.numbers),
        **{name: faked(name, getattr(batch, name)) for name in fields},
    )
