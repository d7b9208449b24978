"""Whether what a run was made with is still here, before anything of it is chosen by name."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from core.errors import UserError
from core.registry import AXES, Registry
from core.run_files import read_lock


def check_made_with(run: Path, registry: Registry, axes: Collection[str] = tuple(AXES)) -> None:
    """A part of a package that was uninstalled is none to choose another for: the run needs that very one.

    Raises:
        UserError: nothing that is installed offers a part of the run, and the package it came from is known.
    """
    for part in read_lock(run)["parts"]:
        axis, name, distribution, version = (part[key] for key in ("kind", "name", "distribution", "version"))
        here = name in registry.names(axis) or registry.suspects(axis, name)  # a broken plugin says so itself
        if axis in axes and not here and distribution != "hooktune":
            raise UserError(
                f"{run} was made with {axis}={name} of {distribution} {version}, which is not installed",
                f"pip install {distribution}=={version}",
            )
