"""How much memory layers hold: parameters, buffers, and what a library keeps beside them in objects of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

CODEBOOK = 1280
"""Bytes that a layer may hold for all its weights at once; in layers of a usual size they vanish."""


def bytes_held(layers: Iterable[nn.Module]) -> int:
    """Of all layers together; what several of them share counts once, and so do two views of one memory."""
    seen: set[int] = set()
    storages: dict[int, int] = {}
    for layer in layers:
        for module in layer.modules():
            for name, value in vars(module).items():
                if name != "_modules":
                    for tensor in _tensors(value, seen):
                        memory = tensor.untyped_storage()
                        storages[memory.data_ptr()] = memory.nbytes()
    return sum(storages.values())


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Those in containers and in attributes of objects; a tensor around others has no memory of its own."""
    if id(value) in seen or isinstance(value, (nn.Module, type)) or callable(value):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        around: Any = getattr(value, "__tensor_flatten__", None)
        if around is None:
            yield value.detach()
        else:
            yield from (inner for name in around()[0] for inner in _tensors(getattr(value, name), seen))
    inside: Any = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple, set)) else ()
    for held in [*inside, *getattr(value, "__dict__", {}).values()]:
        yield from _tensors(held, seen)
