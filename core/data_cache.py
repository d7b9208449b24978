"""Encoded rows from an earlier run: the same rows, tokenizer, template, objective and options need no work twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np

from core.cache import cache_folder, code_of, file_hash, name_of
from core.data import Encoded, Facts
from core.example_file import ExampleFile
from core.plan import Plan
from core.row_file import Listed, RowFile

KEPT_DAYS = 30
"""Days after which a set that no run asked for is removed."""

UNFINISHED_DAYS = 1
"""The same for what a run that was killed left half written."""

META = "meta.json"
"""The file that says all else, hashes of the others included; its first line is the hash of its second."""


def key(plan: Plan, rows: Any) -> str:
    """Of everything that what is encoded depends on.

    Args:
        plan: The run's parts.
        rows: What tells the rows from others: their source's fingerprint, or their hashes.
    """
    config, options = plan.config, asdict(plan.options)
    for unneeded in ("batch_size", "packing", "cache", "tolerance"):
        del options[unneeded]
    what: Mapping[str, Any] = {
        "rows": rows,
        "data": [options, code_of(plan.source), config.offers["data"].version, config.seed],
        "objective": [code_of(plan.objective), config.offers["objective"].version, asdict(config.options["objective"])],
        "tokenizer": _tokenizer(plan.tokenizer),
        "vocabulary": plan.facts.vocabulary,
        "core": [code_of(Facts()), *(version(name) for name in ("transformers", "trl"))],  # they render templates
    }
    return name_of(what)


def _tokenizer(tokenizer: Any) -> list[Any]:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    words = fast.to_str() if fast is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    digest = hashlib.sha256(words.encode()).hexdigest()
    return [type(tokenizer).__name__, digest, str(tokenizer.chat_template), str(tokenizer.special_tokens_map)]


def find(name: str) -> tuple[list[Encoded], dict[str, Any]] | None:
    """Both sides and what was noted beside them; None where there is none, or one that is damaged."""
    folder = cache_folder() / "encoded" / name
    try:
        digest, _, said = (folder / META).read_text(encoding="utf-8").partition("\n")
        if digest != _digest(said):
            return None
        meta = json.loads(said)
        if any(file_hash(folder / file) != known for file, known in meta["files"].items()):
            return None
        found = [_open(folder, number, side) for number, side in enumerate(meta["sides"])]
    except (OSError, ValueError):
        return None
    with suppress(OSError):
        os.utime(folder)
    return found, meta


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _open(folder: Path, number: int, meta: Mapping[str, Any]) -> Encoded:
    rows = RowFile.open(folder / f"{number}.jsonl")
    path = folder / f"{number}.arrow"
    file = ExampleFile.open(path) if path.exists() else ExampleFile([])
    shares = folder / f"{number}.npy"
    return Encoded(
        file.listed(),
        Listed(cast("Any", rows.row), range(len(rows))),  # good rows only are written
        Listed(rows.origin, range(len(rows))),
        file.owners(),
        file.lengths(),
        np.load(shares).tolist() if shares.exists() else None,
        Facts(**meta),
    )


def begin() -> Path | None:
    """A folder to write a set into, or None when the cache cannot be written."""
    folder = cache_folder() / "encoded" / f".{os.getpid()}-{time.monotonic_ns()}"
    try:
        folder.mkdir(parents=True)
    except OSError:
        return None
    return folder


def keep(folder: Path, name: str, sides: Sequence[Encoded], noted: Mapping[str, Any]) -> bool:
    """Put a set that was written into ``folder`` where ``find`` looks, and remove those that nobody asked for.

    Returns:
        Whether it is there; False when the cache cannot be written.
    """
    try:
        _complete(folder, sides, noted)
    except OSError:
        return False
    target = folder.with_name(name)
    shutil.rmtree(target, ignore_errors=True)
    with suppress(OSError):  # another run has just put the same set there
        folder.rename(target)
    _remove_old(target.parent)
    return target.exists()


def _complete(folder: Path, sides: Sequence[Encoded], noted: Mapping[str, Any]) -> None:
    """Beside the examples: rows with their origins, shares, and what is known about all of it."""
    for number, side in enumerate(sides):
        with (folder / f"{number}.jsonl").open("wb") as file:
            for row, origin in zip(side.rows, side.origins, strict=True):
                file.write(RowFile.line(row, origin))
        if side.shares is not None:
            np.save(folder / f"{number}.npy", np.asarray(side.shares))
    files = {file.name: _hash(file) for file in sorted(folder.iterdir())}
    said = json.dumps({**noted, "files": files, "sides": [asdict(side.facts) for side in sides]})
    (folder / META).write_text(f"{_digest(said)}\n{said}", encoding="utf-8")


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _remove_old(parent: Path) -> None:
    for folder in parent.iterdir():
        days = UNFINISHED_DAYS if folder.name.startswith(".") else KEPT_DAYS
        with suppress(OSError):  # another run removes it, too
            if time.time() - folder.stat().st_mtime > days * 86_400:
                shutil.rmtree(folder, ignore_errors=True)
