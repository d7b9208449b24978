"""``profile``: a few steps of a run under torch's profiler, as a table of operators and a trace.

The run is the one that is trained, ``core.run``; it ends at the last step that was looked at, so nothing is saved.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from core.compose import Config, configure
from core.errors import UserError
from core.loading import import_first
from core.verb_flags import take_flags, whole

if TYPE_CHECKING:
    from core.profiled import Profiled

SHOWN = 20
"""Operators that are printed; the file has all."""


def profile(argv: Sequence[str]) -> int:
    """Do what was typed behind ``profile``.

    Raises:
        UserError: a flag, a name or a value is wrong, or the run is.
    """
    flags, overrides = take_flags("profile", argv, {"--steps": "3"})
    steps = whole("--steps", flags.get("--steps", "3"))
    config = configure(overrides)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # read when torch is imported; below, each start and stop is a line
    _one_device(config)
    found = _watched(config, steps)
    typed = shlex.join(["python", "-m", "core", "profile", "--steps", str(steps), *overrides])
    folder = _write(config, found, typed)
    from core.operators import table

    print("", *table(found, SHOWN), "", f"wrote {folder}/table.txt, and trace.json for ui.perfetto.dev", sep="\n")
    return 0


def _one_device(config: Config) -> None:
    """Further processes are started with the same command line: each would write a profile.

    Raises:
        UserError: the run has several.
    """
    from core.devices import ranks

    if ranks(config.trainer) > 1:
        raise UserError(f"trainer.devices={config.trainer.devices}: one process is profiled", "trainer.devices=1")


def _watched(config: Config, steps: int) -> Profiled:
    """Train until the last step was looked at, in a folder that is thrown away.

    Raises:
        UserError: training ended before.
    """
    import core

    import_first(config.offers.values())
    from core.profiled import WARM_UP, Profiled, SeenEnoughError

    watcher = Profiled(steps)
    endless = replace(
        config.trainer, max_steps=WARM_UP + steps, max_epochs=None, max_time=None, fast_dev_run=False, profiler=None
    )
    with TemporaryDirectory(prefix="hooktune-") as scratch:
        run = replace(
            config,
            trainer=endless,
            tree={**config.tree, "metric": {"name": "none"}},
            offers={axis: offer for axis, offer in config.offers.items() if axis != "metric"},
            run_dir=f"{scratch}/run",
        )
        try:
            core.train(run, watch=[watcher])
        except SeenEnoughError:
            return watcher
        except KeyboardInterrupt as error:
            error.__dict__.pop("__notes__", None)  # how to go on with a folder that is thrown away
            raise
    raise UserError("training ended before all steps were profiled", "--steps 1")


def _write(config: Config, found: Profiled, typed: str) -> Path:
    """Table and trace, in a folder of their own.

    Raises:
        UserError: they cannot be written.
    """
    from core.operators import table

    try:
        folder = _fresh(Path(config.run_dir or f"profiles/{datetime.now():%Y-%m-%d_%H-%M-%S}_{config.what}"))
        (folder / "table.txt").write_text("\n".join([typed, "", *table(found)]) + "\n", encoding="utf-8")
        found.profiler.export_chrome_trace(str(folder / "trace.json"))
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename}: {error.strerror}", "run.dir=FOLDER with free space that you may write to"
        ) from None
    return folder


def _fresh(wanted: Path) -> Path:
    """A new folder of this name, or of this name and a number."""
    wanted = wanted.expanduser().absolute()
    for number in count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("counting does not end")
