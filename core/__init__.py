"""hooktune: fine-tune language models with parts that any installed package can offer.

Example:
    >>> import core, sys
    >>> sorted(name for name in dir(core) if name in core.__all__)
    ['__version__', 'configure', 'load_run', 'train']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from core.quiet import hush

__version__ = "0.1.0"
__all__ = ["__version__", "configure", "load_run", "train"]

if TYPE_CHECKING:
    from core.compose import configure as configure
    from core.entry import train as train
    from core.result import load_run as load_run

_LAZY = {"configure": "core.compose", "train": "core.entry", "load_run": "core.result"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        hush()
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'core' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
