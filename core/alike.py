"""Blocks that are alike: what some of them do, all do."""

from __future__ import annotations

from collections.abc import Collection, Generator, Hashable
from contextlib import contextmanager
from typing import Any

from torch import nn

FEWEST = 4
"""Of fewer blocks than these all are looked at."""

_PLAIN = (int, float, str, bool, type(None))


def alike(model: nn.Module, marked: Collection[nn.Module] = ()) -> nn.ModuleList | None:
    """The model's largest list of blocks, where they differ in nothing but their numbers; else None.

    Compared are the modules with their classes, plain attributes and number of hooks, and the tensors with their
    shapes, dtypes and whether they are trained: a method that acts on some of the blocks alone makes them differ.

    Args:
        model: With the method applied.
        marked: Modules that somebody treats in a way of their own.

    Example:
        >>> blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(5))
        >>> alike(blocks) is blocks
        True
        >>> blocks[3].weight.requires_grad_(False) is alike(blocks)
        False
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) >= FEWEST]
    if not lists:
        return None
    most = max(lists, key=lambda blocks: sum(p.numel() for p in blocks.parameters()))
    own = {id(module) for module in marked}
    return most if len({_looks(block, own) for block in most}) == 1 else None


@contextmanager
def only(blocks: nn.ModuleList, number: int) -> Generator[None]:
    """While inside, the model goes through the first ``number`` blocks."""
    every = blocks._modules  # pyright: ignore[reportPrivateUsage]  # deleting them would renumber
    blocks._modules = dict(list(every.items())[:number])  # pyright: ignore[reportPrivateUsage]
    try:
        yield
    finally:
        blocks._modules = every  # pyright: ignore[reportPrivateUsage]


def _looks(block: nn.Module, marked: Collection[int]) -> Hashable:
    return tuple(_looks_of_one(name, module, marked) for name, module in block.named_modules())


def _looks_of_one(name: str, module: Any, marked: Collection[int]) -> Hashable:
    values = {key: value for key, value in vars(module).items() if not key.startswith("_") and key != "layer_idx"}
    tensors = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return (
        name,
        type(module),
        id(module) in marked,
        len(module._forward_hooks) + len(module._forward_pre_hooks),
        tuple((key, value if isinstance(value, _PLAIN) else type(value)) for key, value in values.items()),
        tuple((key, tuple(tensor.shape), tensor.dtype, tensor.requires_grad) for key, tensor in tensors),
    )
