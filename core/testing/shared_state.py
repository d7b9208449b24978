"""What all runs of a process share: functions, classes and registries of libraries, settings, the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from types import FunctionType, MethodType, ModuleType
from typing import Any, cast

WATCHED = (
    "accelerate", "bitsandbytes", "core", "datasets", "huggingface_hub", "lightning", "numpy", "peft", "safetensors",
    "tokenizers", "torch", "transformers", "trl",
)  # fmt: skip

SETTINGS = (
    "get_num_threads", "get_num_interop_threads", "get_default_dtype", "get_default_device", "is_grad_enabled",
    "is_anomaly_enabled", "get_deterministic_debug_mode", "get_float32_matmul_precision", "backends.cudnn.enabled",
    "backends.cudnn.benchmark", "backends.cudnn.deterministic", "backends.cudnn.allow_tf32", "backends.mkldnn.enabled",
    "backends.cuda.matmul.allow_tf32", "backends.cuda.flash_sdp_enabled", "backends.cuda.math_sdp_enabled",
    "backends.cuda.mem_efficient_sdp_enabled", "backends.cuda.cudnn_sdp_enabled", "backends.quantized.engine",
)  # fmt: skip
"""Of torch: values, or functions that give them."""

GONE = object()
"""Stands where there is nothing."""


@dataclass(frozen=True)
class Shared:
    """A look at it; objects are kept, so that no address is used twice.

    Attributes:
        attributes: Qualified name -> what a module or a class holds there.
        registries: Address -> name of a constant, a container in it, and what that holds.
        values: Settings and variables of the environment.
    """

    attributes: Mapping[str, Any]
    registries: Mapping[int, tuple[str, Any, Mapping[Any, Any]]]
    values: Mapping[str, Any]


def look() -> Shared:
    """Take it all down."""
    attributes = dict(_attributes())
    constants = ((name, value) for name, value in attributes.items() if _is_constant(name.rpartition(".")[2]))
    registries = {id(held): (name, held, _held(held)) for name, value in constants for held in _containers(value)}
    environment = {f"os.environ[{name}]": value for name, value in os.environ.items()}
    return Shared(attributes, registries, environment | _settings())


def differing(before: Shared, after: Shared, usual: Collection[str] = ()) -> list[str]:
    """Names of what is another one, is new, or is gone.

    Libraries import their own modules late and fill their own caches: what they add is theirs, and of attributes only
    those count that can be called. What a library made may stand in the place of another only where it does so anyway:
    ``torch.no_grad()(softmax)`` is the library's, but who put it there is not.

    Args:
        before: A look at it.
        after: A later one.
        usual: Names of what differed in a run that nobody is suspected of.
    """
    changed = [
        name
        for name, value, now in _unequal(before.attributes, after.attributes)
        if (_acts(value) or _acts(now)) and not _is_theirs(name, value, now, before, usual)
    ]
    modules = {name.rpartition(".")[0] for name in before.attributes}
    changed = [name for name in changed if name.rpartition(".")[0] in modules]
    for address, (name, _, held) in before.registries.items():
        _, _, holds = after.registries.get(address, ("", None, held))
        filled = "CACHE" in name  # what is new in one is the library's own doing; what is another is not
        changed += [
            f"{name}[{key!r}]"
            for key, value, now in _unequal(held, holds)
            if not _made_by_a_library(now) and not (filled and value is GONE)
        ]
    changed += [name for name, value, now in _unequal(before.values, after.values) if value != now]
    return sorted(changed)


def _unequal(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Key, what was there and what is there, where that is not the same object."""
    for key, value in before.items():
        if (now := after.get(key, GONE)) is not value:
            yield key, value, now
    for key in after.keys() - before.keys():
        yield key, GONE, after[key]


def _is_theirs(name: str, value: Any, now: Any, before: Shared, usual: Collection[str]) -> bool:
    """Whether it is a library's own doing; what replaces something must have been made for it."""
    if not _made_by_a_library(now):
        return False
    if value is GONE or _maker(now) == "torch.optim.optimizer":  # torch wraps step when the first of a class is made
        return True
    return name in usual and not any(now is known for known in before.attributes.values())


def _attributes() -> Iterator[tuple[str, Any]]:
    for name, module in list(sys.modules.items()):
        if module is None or name.partition(".")[0] not in WATCHED:  # pyright: ignore[reportUnnecessaryComparison]
            continue
        for key, value in list(vars(module).items()):
            yield f"{name}.{key}", value
            if _is(value, type) and value.__module__ == name:
                for inner, held in list(vars(value).items()):
                    yield f"{name}.{key}.{inner}", held


def _is_constant(name: str) -> bool:
    """In capitals, or a registry of torch's hooks or of transformers' functions."""
    return name.isupper() or name.startswith("_global")


def _containers(value: Any) -> list[Any]:
    """A registry is a container, or an object around containers."""
    around = not _is(value, type, ModuleType) and type(value).__dictoffset__
    inside = object.__getattribute__(value, "__dict__").values() if around else ()
    return [held for held in [value, *inside] if _is(held, dict, list, set)]


def _held(container: Any) -> Mapping[Any, Any]:
    if _is(container, dict):
        return dict(dict.items(container))  # transformers' mappings import every model when they are asked themselves
    return dict(enumerate(container)) if _is(container, list) else {item: item for item in container}


def _settings() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {}
    for name in SETTINGS:
        value = reduce(getattr, name.split("."), cast("Any", torch))
        found[f"torch.{name}"] = value() if callable(value) else value
    return found


def _acts(value: Any) -> bool:
    return value is not GONE and (callable(value) or _is(value, property, classmethod, staticmethod))


def _made_by_a_library(value: Any) -> bool:
    return _maker(value).partition(".")[0] in WATCHED


def _maker(value: Any) -> str:
    """The module that made an object; a function's globals cannot be copied from another, as ``__module__`` can."""
    if _is(value, ModuleType):
        return value.__name__
    if _is(value, property):
        return _maker(value.fget)
    if _is(value, classmethod, staticmethod, MethodType):
        return _maker(value.__func__)
    if _is(value, FunctionType):
        return str(value.__globals__.get("__name__"))
    return str(value.__module__ if _is(value, type) else type(value).__module__)


def _is(value: Any, *kinds: type) -> bool:
    """``isinstance`` that asks nothing of the object: some of torch's warn, or look for a GPU, when they are asked."""
    return issubclass(type(value), kinds)
