"""One job of a sweep: whatever happens to it, the others run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import core
from core import capabilities
from core.compose import Config
from core.errors import ERROR, Interrupted, UserError, shortened
from core.result import Result
from core.resume import resume as go_on
from core.runfolder import RunFolder
from core.sweep_table import Job


def patches(config: Config) -> bool:
    """Whether a part alters libraries for the whole process, which the other jobs share."""
    return any(offer.part.patches or offer.part.import_first for offer in config.offers.values())


def _here(config: Config, resume: Path | None) -> Result:
    return core.train(config) if resume is None else go_on(resume)


def _apart(config: Config, resume: Path | None) -> Result:
    """The run in a process of its own.

    Raises:
        UserError: it failed; what it said was printed.
    """
    words = config.overrides if resume is None else ["resume", str(resume)]
    code, why = _ended([sys.executable, "-m", "core", *words])
    if code > 128:
        raise Interrupted(code - 128)
    if code:
        raise UserError(why or f"the job's process ended with exit code {code}", "see what it printed above")
    return core.load_run(str(config.run_dir))


def _ended(command: Sequence[str]) -> tuple[int, str]:
    """Exit code, and what was wrong, of a process that is told of each signal that comes here.

    So it ends in good order, as a run does.
    """
    running: list[subprocess.Popen[str]] = []

    def tell(number: int, _frame: object) -> None:
        if not running:
            raise Interrupted(number)
        running[0].send_signal(number)

    before: dict[int, Any] = {}
    with suppress(ValueError):  # outside the main thread, to which signals do not come
        before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        # what was typed, once more
        with subprocess.Popen(  # noqa: S603
            command, process_group=0, stderr=subprocess.PIPE, text=True, errors="replace"
        ) as process:
            running.append(process)
            assert process.stderr is not None, "asked for"
            why = ""
            for line in process.stderr:
                print(line, end="", file=sys.stderr, flush=True)
                why = line.removeprefix(ERROR).rstrip() if line.startswith(ERROR) else why
            return process.wait(), why
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_word(config: Config, state: str, why: str) -> None:
    """A folder that says why there is no more in it, where the run itself left none."""
    with suppress(UserError):
        folder = RunFolder.create(str(config.run_dir), config.what, datetime.now())
        folder.write_config(config.tree, config.overrides)
        folder.finish(state, why)


def note(job: Job, result: Any) -> float | None:
    """Fill in what a run that is done measured and took; return what :func:`run_job` returns."""
    job.state, job.seconds, job.peak_memory = "done", result.seconds, result.peak_memory
    for split, score in (("before", result.before), ("after", result.after)):
        if score is not None:
            job.metric = score.name
            setattr(job, split, score.value)
    after = result.after
    return None if after is None else after.value if after.better == "higher" else -after.value


def run_job(config: Config, job: Job, resume: Path | None = None) -> float | None:
    """Train, and note in ``job`` how it went; only a signal stops the other jobs.

    Args:
        config: The job's.
        job: What is filled in.
        resume: The stopped run's folder to go on in.

    Returns:
        The metric after training, its negative where less is better: more is better, whatever it is. None without one.
    """
    worth = None
    try:
        capabilities.check(config.offers, capabilities.words(config.trainer.accelerator), config.registry)
    except UserError as error:
        job.state, why = "refused", f"{error.what}; {error.fix}"
        print(f"refused: {why}", file=sys.stderr)
        _leave_word(config, job.state, why)
        return None
    began = time.monotonic()
    try:
        worth = note(job, _apart(config, resume) if patches(config) else _here(config, resume))
    except UserError as error:
        job.state = "failed"
        print(error, file=sys.stderr)
        _leave_word(config, job.state, error.what)
    except (Exception, SystemExit) as error:  # a part that calls sys.exit must not stop the other jobs
        job.state = "failed"
        traceback.print_exc()
        _leave_word(config, job.state, f"{type(error).__name__}: {shortened(str(error))}")
    finally:
        job.seconds = job.seconds or round(time.monotonic() - began, 3)
    return worth if job.state == "done" else None
