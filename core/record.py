"""What a run is made of: written down when its model is loaded, and compared when it is resumed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.lockfile import lock
from core.plan import Plan
from core.planned import Planned
from core.run_files import anew, read_lock
from core.runfolder import RunFolder
from core.stages import Data
from core.verdicts import of_pairs


def record(plan: Plan, data: Data, expected: Planned | None, folder: RunFolder, resume: Path | None) -> None:
    """Write what is used, with versions and hashes, and what it is expected to need.

    Raises:
        UserError: a run is resumed with other rows, another model or chat template than it began with.
    """
    found = _lock(plan, data)
    if resume is not None and (folder.path / "lock.json").exists():
        began = read_lock(folder.path)
        for what, now, then in (
            ("rows are not those", found["data"]["rows"], began["data"]["rows"]),
            ("model is not the one", found["model"]["sha256"], began["model"]["sha256"]),
            ("chat template is not the one", found["template"], began["template"]),
        ):
            if now != then:
                raise UserError(f"the {what} {resume} began with", f"put back what was there, or {anew(folder.path)}")
    folder.write_json("lock.json", found)
    if expected is not None:
        folder.write_json("plan.json", expected.plain())
        folder.status(predicted_memory=expected.memory["total"])


def _lock(plan: Plan, data: Data) -> dict[str, Any]:
    return lock(
        plan.config,
        given=plan.start.given,
        path=plan.facts.path,
        revision=plan.start.model.revision,
        template=plan.tokenizer.chat_template,
        head=asdict(data.head),
        verdicts=of_pairs(plan.config.offers),
        data={
            "system": data.train.facts.system,
            "rows": {"train": data.train.facts.digest, "validation": data.validation.facts.digest},
        },
    )
