"""``plan``: what a run would do and need, on one screen, before any weight is read."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from core import plan_fit, plan_probe, plan_ranks, verdicts
from core.compose import configure
from core.errors import UserError, shortened
from core.overrides import parse
from core.plan_kept import plan_once
from core.plan_screen import lines
from core.runfolder import check_free
from core.verb_flags import take_flags

if TYPE_CHECKING:
    from core.planned import Planned


def plan(argv: Sequence[str]) -> int:
    """Do what was typed behind ``plan``.

    Raises:
        UserError: a name, a value or a flag is wrong, or the run could not begin.
    """
    flags, overrides = take_flags("plan", argv, {"--json": "", "--probe": "", "--fit": "24GB"})
    if plan_ranks.asked(overrides):
        _alone(plan_ranks.KEY, flags)
        return _show(plan_ranks.table(_planned, overrides))
    if "--fit" in flags:
        _alone("--fit", {flag for flag in flags if flag != "--fit"})
        limit = plan_fit.size(flags["--fit"])
        return _show(plan_fit.proposals(_planned, configure(overrides), limit))
    _one_run(overrides)
    found = _planned(overrides)
    probed = plan_probe.probe(overrides) if "--probe" in flags else None
    if "--json" in flags:
        print(json.dumps(found.plain() | ({} if probed is None else {"probe": probed}), indent=1))
        return 0
    return _show(lines(found) if probed is None else chain(lines(found), plan_probe.lines(probed, found)))


def _one_run(overrides: Sequence[str]) -> None:
    for override in parse(overrides):
        if override.is_sweep_override():
            raise UserError(
                f"{override.input_line} is several values, and plan shows one run",
                "keep one; a sweep plans all its jobs before the first one starts",
            )


def _planned(overrides: Sequence[str]) -> Planned:
    config = configure(list(overrides))
    if config.run_dir:
        check_free(config.run_dir)
    try:
        return plan_once(config)
    except UserError:
        raise
    except Exception as error:
        others = [f"{axis}={o.part.name}" for axis, o in config.offers.items() if o.distribution != verdicts.OURS]
        if not others:
            raise
        what = f"{type(error).__name__}: {shortened(str(error))}"
        raise UserError(
            f"this cannot be counted without weights: {what}", f"it trains, or mend {' or '.join(others)}"
        ) from error


def _alone(what: str, flags: Collection[str]) -> None:
    if flags:
        raise UserError(f"{what} prints a table of its own", f"leave out {' '.join(sorted(flags))}")


def _show(found: Iterable[str]) -> int:
    for line in found:
        print(line, flush=True)
    return 0
