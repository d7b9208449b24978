"""Checks that need a process of their own get one that has imported the libraries already: seconds, not minutes."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from core.discovery import discover

LIBRARIES = [
    "core.testing",
    "torch",
    "transformers",
    "peft",
    "lightning.pytorch",
    "datasets",
    "torchdata.stateful_dataloader",
]

P = ParamSpec("P")
T = TypeVar("T")


def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function of a module in a process that has seen no plugin yet, in this folder, with this environment."""
    with ProcessPoolExecutor(max_workers=1, mp_context=_context()) as pool:
        return pool.submit(_there, Path.cwd(), dict(os.environ), function, args, kwargs).result(timeout=600)


@cache
def _context() -> Any:
    kinds = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in kinds else "spawn")
    if hasattr(context, "set_forkserver_preload"):
        context.set_forkserver_preload([*_first(), *LIBRARIES])  # pyright: ignore[reportAttributeAccessIssue]
    return context


def _first() -> list[str]:
    """What this process, too, has imported before the libraries."""
    return [module for offer in discover().offers for module in offer.part.import_first if module in sys.modules]


def _there(folder: Path, environment: dict[str, str], function: Callable[..., T], args: Any, kwargs: Any) -> T:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return function(*args, **kwargs)
