"""What a run's folder says to whoever comes later: its state, what it was made of, how it goes on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from core.errors import UserError


def saved(run: Path) -> Path | None:
    """The adapter or the model that a run has saved, or None; each appears when it is complete."""
    return next((run / name for name in ("adapter", "model") if (run / name).is_dir()), None)


def how_to_go_on(run: Path) -> str:
    """The command that gets a run to its end: from its checkpoint, or anew where it has none."""
    return f"python -m core resume {shlex.quote(str(run))}" if checkpoint_of(run).exists() else anew(run)


def anew(run: Path) -> str:
    """The command that a run was started with, for a folder of its own."""
    typed = (run / "overrides.txt").read_text(encoding="utf-8").splitlines()
    return shlex.join(["python", "-m", "core", *(line for line in typed if not line.startswith("run.dir="))])


def checkpoint_of(run: Path) -> Path:
    """Where the checkpoint of a stopped run lies."""
    return run / "checkpoints" / "last.ckpt"


def read_status(folder: Path, asked: Path | None = None) -> dict[str, Any]:
    """What ``status.json`` says.

    Raises:
        UserError: there is none, or it is damaged.
    """
    file = folder / "status.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{asked or folder} is not a run folder", "give a folder under runs/ that holds a status.json"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}", "start the run anew") from None
    if not isinstance(found, dict) or "state" not in found or "seconds" not in found:
        raise UserError(f"{file} is not what a run wrote: it has no state", "start the run anew")
    return cast("dict[str, Any]", found)


LOCKED = frozenset({"parts", "packages", "python", "machine", "data", "model"})
"""Keys of ``lock.json`` that are read."""


def read_lock(run: Path) -> dict[str, Any]:
    """What ``lock.json`` says.

    Raises:
        UserError: there is none, for the run never loaded its model, or it is damaged.
    """
    file = run / "lock.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{run} never came to load its model", "start the run anew") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}", "start the run anew") from None
    if not isinstance(found, dict) or not LOCKED.issubset(cast("dict[str, Any]", found)):
        raise UserError(f"{file} is not what a run wrote", "start the run anew")
    return cast("dict[str, Any]", found)


def model_of(lock: Mapping[str, Any]) -> str:
    """What ``model.path`` was, from any folder; an older run says only what was found there.

    Example:
        >>> model_of({"model": {"path": "/models/small"}})
        '/models/small'
    """
    return lock["model"].get("given", lock["model"]["path"])
