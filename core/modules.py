"""Looking for modules without importing anything: the usual way to find a submodule runs its parents."""

from __future__ import annotations

import importlib.util


def installed(module: str) -> bool:
    """Whether its top package is."""
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False
