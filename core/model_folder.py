"""Where a model's files lie, whatever the user called them."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from core.errors import UserError
from core.options import ModelOptions

SUITED = "of a run, or with a config.json"


def model_folder(source: ModelOptions) -> str:
    """What ``from_pretrained`` of transformers takes: an absolute folder with a config.json, or a hub id.

    A GGUF file is converted to such a folder, once.

    Raises:
        UserError: a folder without a config.json, an adapter's folder, a damaged file, or nothing there nor on the hub.
    """
    path = Path(source.path).expanduser()
    if path.suffix.lower() == ".gguf" and path.is_file():
        from core.gguf import converted  # imports torch

        return str(converted(path))
    if not path.exists():
        if source.path.startswith((".", "/", "~")) or source.path.count("/") > 1 or path.suffix.lower() == ".gguf":
            raise UserError(f"model.path={source.path} does not exist", instead(source.path))
        from core.hub_model import check_reachable

        check_reachable(source.path, source.revision)
        return source.path
    if not path.is_dir():
        raise UserError(f"model.path={source.path} is a file of an unknown kind", "model.path=FOLDER, or a .gguf file")
    if not (path / "config.json").exists():
        raise _no_model(source.path, path)
    return str(path.absolute())


def _no_model(given: str, folder: Path) -> UserError:
    if (folder / "adapter_config.json").exists():
        run = folder.absolute().parent
        if (run / "status.json").exists():
            fix = f"model.path={os.path.relpath(run)} goes on from the run that it is of"
        else:
            base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
            fix = f"model.path={base}"
        return UserError(f"model.path={given} is an adapter, not a model", fix)
    return UserError(f"model.path={given} has no config.json", f"{_run_in(folder)}model.path=FOLDER {SUITED}")


def instead(path: str) -> str:
    """What to type in place of a path that leads nowhere."""
    given = Path(path).expanduser()
    beside: list[str] = []
    with suppress(OSError):  # one that may not be looked into, or is not there
        beside = [folder.name for folder in given.parent.iterdir() if folder.is_dir()]
    near = get_close_matches(given.name, beside, 1)
    guess = f"did you mean model.path={Path(path).parent / near[0]}?  " if near else ""
    return f"{guess}model.path=FOLDER {SUITED}, a hub id as ORGANISATION/NAME, or a .gguf file"


def _run_in(folder: Path) -> str:
    """The newest run inside a folder, as a guess."""
    runs = sorted(folder.glob("*/status.json"), key=lambda file: file.stat().st_mtime)
    return f"did you mean model.path={os.path.relpath(runs[-1].parent)}?  " if runs else ""
