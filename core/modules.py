"""Looking for modules without importing anything: the usual way to find a submodule runs its parents."""

from __future__ import annotations

import importlib.util
import pkgutil
from importlib.machinery import ModuleSpec


def installed(module: str) -> bool:
    """Whether its top package is."""
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def find(module: str) -> ModuleSpec | None:
    """Where it is, found folder by folder from its top package."""
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top)
    for name in inner:
        places = (spec.submodule_search_locations if spec is not None else None) or ()
        finders = [finder for place in places if (finder := pkgutil.get_importer(place)) is not None]
        spec = next((found for finder in finders if (found := finder.find_spec(name)) is not None), None)
    return spec
