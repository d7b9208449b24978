"""What a run changed in libraries that others use too."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from inspect import isclass, isroutine
from pathlib import Path
from typing import Any

WATCHED = ("torch", "transformers", "peft", "lightning", "datasets", "trl", "tokenizers", "accelerate")


def changed_by(overrides: Sequence[str], usual: Sequence[str]) -> list[str]:
    """Names of functions, classes and variables of the environment that a run replaced.

    Args:
        overrides: Of the run.
        usual: Of a run before, without the part that is looked at: what it changes is not the part's doing.
    """
    from core.testing.rig import train

    train(usual)
    before, environment = _snapshot(), dict(os.environ)
    train(overrides)
    changed = [
        name
        for name, value in _snapshot().items()
        if name in before and before[name] is not value and not _own(name, value)
    ]
    return [*changed, *(f"os.environ[{key}]" for key in _differing(environment, dict(os.environ)))]


def _snapshot() -> Mapping[str, Any]:
    """Qualified name -> object; objects are kept, so that no address is used twice."""
    found: dict[str, Any] = {}
    for name, module in list(sys.modules.items()):
        if module is None or name.partition(".")[0] not in WATCHED:  # pyright: ignore[reportUnnecessaryComparison]
            continue
        for key, value in list(vars(module).items()):
            if isclass(value) or isroutine(value):
                found[f"{name}.{key}"] = value
            if isclass(value) and value.__module__ == name:
                inside = {k: v for k, v in list(vars(value).items()) if isroutine(v)}
                found |= {f"{name}.{key}.{k}": v for k, v in inside.items()}
    return found


def _own(name: str, value: Any) -> bool:
    """Whether the library changed itself: torch wraps an optimizer's ``step`` when the first one is made."""
    code = getattr(value, "__code__", None)
    file = getattr(sys.modules.get(name.partition(".")[0]), "__file__", None)
    if code is None or file is None:
        return False
    return Path(code.co_filename).is_relative_to(Path(file).parent)


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
