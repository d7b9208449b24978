"""Going on with a run that was stopped, in its own folder."""

from __future__ import annotations

from contextlib import chdir, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.run_files import anew, read_lock, read_status, saved

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
        why = str(status.get("error")).partition("\n")[0]
        ended = f"it failed after that: {why}" if status["state"] == "failed" else "it was stopped after that"
        raise UserError(
            f"{run} was trained to its end and is saved; {ended}",
            f'python -m core generate {run} "PROMPT"',
        )
    if not (run / "checkpoints" / "last.ckpt").exists():
        raise UserError(f"{run} holds no checkpoint", anew(run))
    import core

    typed = (run / "overrides.txt").read_text(encoding="utf-8").splitlines()
    began = Path(read_lock(run)["folder"])  # paths may be relative to it
    with chdir(began) if began.is_dir() else nullcontext():
        return core.train(core.configure(typed), resume=run)
