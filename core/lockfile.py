"""What a run was made of, exact enough to make it again: the content of ``lock.json``."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from core.cache import file_hash

if TYPE_CHECKING:
    from core.compose import Config
    from core.registry import Offer


def lock(
    config: Config,
    *,
    given: str,
    path: Path,
    revision: str | None,
    template: Any,
    head: Mapping[str, Any],
    data: Mapping[str, Any],
    verdicts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What was used, with versions and hashes.

    Args:
        config: The run's.
        given: What its loader takes for the model, from any folder.
        path: Folder or hub id of the weights that were really loaded.
        revision: Branch, tag or commit that was asked for; the commit that was loaded is what gets written.
        template: The tokenizer's chat template, text or a list of them.
        head: Which model class was loaded.
        data: What else is known about the rows; the hashes of the files that the options name are added.
        verdicts: Two parts -> whether they have been trained together.
    """
    offers = config.offers
    return {
        "model": {"given": given, **_model(path, revision)},
        "head": dict(head),
        "parts": [_part(axis, offer) for axis, offer in offers.items()],
        "packages": _packages(offers.values()),
        "python": platform.python_version(),
        "machine": _machine(),
        "seed": config.seed,
        "folder": os.getcwd(),
        "patches": sorted({module for offer in offers.values() for module in offer.part.patches}),
        "data": {**data, "files": {**_files(config.tree.get("data", {})), **data.get("files", {})}},
        "template": hashlib.sha256(repr(template).encode()).hexdigest() if template else None,
        "verdicts": dict(verdicts or {}),
    }


def _model(path: Path, revision: str | None) -> dict[str, Any]:
    folder = path
    if not path.exists():
        folder = _snapshot(str(path), revision)
        revision = folder.name if folder.exists() else revision
    weights = [folder] if folder.is_file() else [*folder.glob("*.safetensors"), *folder.glob("*.gguf")]
    return {"path": str(path), "revision": revision, "sha256": {file.name: file_hash(file) for file in sorted(weights)}}


def _snapshot(hub_id: str, revision: str | None) -> Path:
    """The hub cache's folder of a model that was loaded; its name is the commit."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    except HFValidationError:  # a place that only its loader knows
        return Path(hub_id)
    return Path(config).parent if isinstance(config, str) else Path(hub_id)


def _part(axis: str, offer: Offer) -> dict[str, str]:
    origin = {"distribution": offer.distribution, "version": offer.version, "plugin": offer.plugin}
    return {"kind": axis, "name": offer.part.name, **origin}


def _packages(offers: Iterable[Offer]) -> dict[str, str]:
    """Versions of what hooktune depends on directly, of the parts' distributions and of what they need."""
    wanted = {"hooktune"}
    try:
        required = [line for line in metadata.requires("hooktune") or [] if "extra ==" not in line]
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        required = []
    wanted |= {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required}
    for offer in offers:
        wanted |= {offer.distribution, *offer.part.needs}
    return {name: version for name in sorted(wanted) if (version := _version(name))}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    gpus = torch.cuda.device_count() if torch is not None and torch.cuda.is_available() else 0
    return {
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "gpus": [torch.cuda.get_device_name(index) for index in range(gpus)] if torch is not None else [],
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())


def _files(options: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the files that a data source's options name."""
    named = [os.path.expanduser(value) for value in options.values() if isinstance(value, str)]
    return {file: file_hash(Path(file)) for file in named if os.path.isfile(file)}  # pathlib refuses long prompts
