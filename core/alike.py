"""Blocks that are alike: what some of them do, all do."""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Hashable, Mapping
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType
from typing import Any, cast

import torch
from torch import nn

FEWEST = 4
"""Of fewer blocks than these all are looked at."""

_PLAIN = (int, float, str, bool, type(None), torch.device, torch.dtype)
_NUMBER = re.compile(r"\.\d+(?=\.|$)")
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def alike(model: nn.Module, marked: Collection[nn.Module] = ()) -> nn.ModuleList | None:
    """The model's largest list of blocks, where they differ in nothing but their numbers; else None.

    Compared are the modules with their classes, attributes and hooks, and the tensors with their shapes, dtypes and
    whether they are trained: a method that acts on some of the blocks alone makes them differ. Of a function its code
    and what it closes over count; of an object of another kind its class and its plain attributes.

    Args:
        model: With the method applied.
        marked: Modules that somebody treats in a way of their own.

    Example:
        >>> blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(5))
        >>> alike(blocks) is blocks
        True
        >>> _ = blocks[3].requires_grad_(False)
        >>> alike(blocks) is None
        True
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
    values = {key: value for key, value in vars(module).items() if key not in _OF_EVERY_MODULE and key != "layer_idx"}
    tensors = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return (
        name,
        type(module),
        id(module) in marked,
        tuple(map(_value, (*module._forward_hooks.values(), *module._forward_pre_hooks.values()))),
        tuple((key, _value(value)) for key, value in values.items()),
        tuple((key, tuple(tensor.shape), tensor.dtype, tensor.requires_grad) for key, tensor in tensors),
    )


def _value(value: Any) -> Hashable:
    """What two modules must have in common of an attribute or a hook."""
    if isinstance(value, str):
        return _NUMBER.sub(".", value)  # a layer may hold its own name
    if isinstance(value, (*_PLAIN, type)):
        return value
    if isinstance(value, Mapping):
        return tuple((str(key), _value(one)) for key, one in cast("Mapping[Any, Any]", value).items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(map(_value, cast("Collection[Any]", value)))
    if isinstance(value, FunctionType):
        cells = tuple(_value(cell.cell_contents) for cell in value.__closure__ or ())
        return (value.__code__, _value(value.__defaults__), cells)
    if isinstance(value, MethodType):
        return (_value(value.__func__), _value(value.__self__))
    if isinstance(value, (torch.Tensor, nn.Module)):
        return (type(value), *getattr(value, "shape", ()))
    if isinstance(value, partial):
        return tuple(map(_value, (value.func, value.args, value.keywords)))
    own: Mapping[str, Any] = getattr(value, "__dict__", {})
    return (type(value), *((key, _value(one)) for key, one in own.items() if isinstance(one, _PLAIN)))
