"""The door to a run: parts that patch their libraries are imported before anything else brings those in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.collecting import paused
from core.compose import Config
from core.devices import first
from core.errors import UserError
from core.loading import import_first
from core.runfolder import check_free

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from core.result import Result


def train(config: Config, resume: Path | None = None, watch: Sequence[Callback] = ()) -> Result:
    """Train; see ``core.run``, which imports torch and all that is built on it.

    Args:
        config: What ``core.configure`` composed.
        resume: A stopped run's folder to go on in.
        watch: Further callbacks that look on while it trains.

    Raises:
        UserError: ``config`` is none, or something is wrong with the config, the data or the model.
        Interrupted: a signal came; the folder holds a checkpoint, or what was trained when it came late.
    """
    if not isinstance(config, Config):  # pyright: ignore[reportUnnecessaryIsInstance]  # a notebook has no pyright
        raise UserError(
            f"core.train takes a config, not a {type(config).__name__}", "core.train(core.configure([...]))"
        )
    if config.run_dir and resume is None and first(config.trainer):  # before what takes seconds
        check_free(config.run_dir)
    with paused():
        import_first(config.offers.values())
        from core import run, switches

    with switches.put_back():
        return run.train(config, resume, watch)
