"""Going on with a run that was stopped, in its own folder."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import chdir, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.discovery import discover
from core.errors import UserError
from core.made_with import check_made_with
from core.run_files import anew, checkpoint_of, read_lock, read_status, saved

if TYPE_CHECKING:
    from core.result import Result


def resume(run: Path) -> Result:
    """Train on from the run's checkpoint, with its own config, in the folder it was started in.

    Raises:
        UserError: ``run`` is no run, or is done, or holds no checkpoint.
    """
    run = run.expanduser().absolute()
    if not run.exists():  # one that was killed never got its name back
        run = next((hidden for hidden in [run.with_name(f".{run.name}.partial")] if hidden.exists()), run)
    status = read_status(run)
    if status["state"] == "done":
        raise UserError(f"{run} is done", f"python -m core model.path={run} trains on from what it saved")
    if saved(run):
        raise UserError(
            f"{run} was trained to its end and is saved; {_ended(status, ' after that')}",
            f'python -m core generate {run} "PROMPT"',
        )
    if not checkpoint_of(run).exists():
        raise UserError(f"{run} holds no checkpoint; {_ended(status)}", anew(run))
    import core

    check_made_with(run, discover())
    typed = (run / "overrides.txt").read_text(encoding="utf-8").splitlines()
    began = Path(read_lock(run)["folder"])  # paths may be relative to it
    with chdir(began) if began.is_dir() else nullcontext():
        return core.train(core.configure(typed), resume=run)


def _ended(status: Mapping[str, Any], when: str = "") -> str:
    """How a run came to an end that is none.

    Example:
        >>> _ended({"state": "failed", "error": "the loss is nan at step 2"})
        'it failed: the loss is nan at step 2'
    """
    if status["state"] != "failed":
        return f"it was stopped{when}"
    first, _, _ = str(status.get("error")).partition("\n")
    return f"it failed{when}: {first}"
