"""Going on with a run that was stopped, in its own folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError

if TYPE_CHECKING:
    from core.result import Result


def resume(run: Path) -> Result:
    """Train on from the run's checkpoint, with its own config.

    Raises:
        UserError: ``run`` is no run, or is done, or holds no checkpoint.
    """
    run = run.expanduser().absolute()
    if not run.exists():  # one that was killed never got its name back
        run = next((hidden for hidden in [run.with_name(f".{run.name}.partial")] if hidden.exists()), run)
    try:
        status = json.loads((run / "status.json").read_text())
        typed = (run / "overrides.txt").read_text().splitlines()
    except OSError:
        raise UserError(f"{run} is not a run folder", "give a folder under runs/ that holds a status.json") from None
    if status["state"] == "done":
        raise UserError(f"{run} is done", f"python -m core model.path={run} trains on from what it saved")
    if not (run / "checkpoints" / "last.ckpt").exists():
        raise UserError(f"{run} holds no checkpoint", f"start it anew: python -m core {' '.join(typed)}")
    import core

    return core.train(core.configure(typed), resume=run)
