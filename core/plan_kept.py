"""A plan, made once: the second time it is read again, without torch and all else that counting needs."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from core import verdicts
from core.cache import cache_folder, code_at, file_hash, name_of, note_down, stamp
from core.collecting import paused
from core.compose import Config
from core.devices import claim
from core.errors import UserError
from core.loading import import_first
from core.memory import there
from core.planned import Planned
from core.quiet import hush
from core.source import Start, locate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from core.contracts import Loader
    from core.options import ModelOptions

PACKAGES = ("torch", "transformers", "peft", "trl", "lightning", "bitsandbytes", "datasets")
"""Whose version changes what is read or counted."""


def plan_once(config: Config) -> Planned:
    """What the run will do and need, made now or by an earlier command.

    Raises:
        UserError: the run could not begin.
    """
    if config.trainer.accelerator in ("gpu", "cuda"):
        claim(config.trainer)
    file = _file(config)
    if file is not None and (known := _read(file)) is not None:
        return known
    hush()
    with paused():
        import_first(config.offers.values())
        from core.plan import make_plan
        from core.planning import planned

        found = planned(make_plan(config, tokenizer_of=_if_there))
    if file is not None and found.rows is not None:
        note_down(file, found.plain())
    return found


def _if_there(loader: Loader, source: ModelOptions) -> PreTrainedTokenizerBase:
    """The tokenizer, or None where only the model's config has been fetched."""
    try:
        return loader.tokenizer(source)
    except UserError:
        folder = Path(source.path).expanduser()
        if any(file for pattern in ("*token*", "vocab*") for file in folder.glob(pattern)):
            raise  # one that is there is wrong
        return cast("Any", None)


def _file(config: Config) -> Path | None:
    """Where a plan of this config is kept, named after all that it depends on; None where not all of that can be seen.

    A model of the hub, standard input and a part that cannot be made are looked at anew each time.

    Raises:
        UserError: the model is nowhere.
    """
    start = locate(replace(config.model, dtype="float32"))  # what auto is depends on the machine, and asks torch
    weights = _of_model(start)
    try:
        rows = config.registry.make(config.offers["data"], config.options["data"]).fingerprint()
    except Exception:  # whatever it is, making the plan says it
        return None
    if not weights or rows is None:
        return None
    what = {
        "config": [config.tree, dict(config.choices), list(config.overrides)],
        "parts": [
            [axis, offer.part.name, offer.distribution, offer.version, code_at(offer.part.target.partition(":")[0])]
            for axis, offer in sorted(config.offers.items())
        ],
        "model": [asdict(start.model), weights],
        "rows": rows,
        "core": [*code_at(__name__), file_hash(verdicts.FILE)],
        "packages": [metadata.version(name) for name in PACKAGES],
        "machine": _machine(),
    }
    return cache_folder() / "plans" / f"{name_of(what)}.json"


def _machine() -> list[Any]:
    """What dtype, device and memory are taken from."""
    cpu = Path("/proc/cpuinfo")
    flags = (
        next((line for line in cpu.read_text().splitlines() if line.startswith("flags")), "") if cpu.exists() else ""
    )
    gpus = sorted(str(device) for device in Path("/dev").glob("nvidia*"))
    return [flags, there(), gpus, os.environ.get("CUDA_VISIBLE_DEVICES")]


def _of_model(start: Start) -> list[Any]:
    """Of files on this machine; nothing of what may change elsewhere."""
    found = stamp(Path(start.model.path).expanduser())
    return [*found, *(stamp(start.adapter) if start.adapter is not None else [])] if found else []


def _read(kept: Path) -> Planned | None:
    """The plan; None where there is none, or a damaged one."""
    with suppress(OSError, ValueError, TypeError):
        return Planned(**json.loads(kept.read_text(encoding="utf-8")))
    return None
