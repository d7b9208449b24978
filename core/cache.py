"""Where the results of slow work are kept from one run to the next, and the hashes of large files."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from core.modules import find


def cache_folder() -> Path:
    """``HOOKTUNE_CACHE``, else the user's cache directory."""
    return Path(os.environ.get("HOOKTUNE_CACHE") or user_cache_path("hooktune")).absolute()


def computing() -> list[str]:
    """Versions of what computes values that are kept."""
    return [version(package) for package in ("torch", "transformers", "peft", "bitsandbytes")]


def file_hash(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal; remembered for as long as path, size and time of change stay.

    Raises:
        OSError: the file cannot be read.
    """
    stat = file.stat()
    return _hash_of(file.absolute(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _hash_of(file: Path, size: int, changed: int) -> str:
    file = file.resolve()
    known = {"path": str(file), "size": size, "changed": changed}
    note = cache_folder() / "hashes" / f"{hashlib.sha256(str(file).encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError):
        noted = json.loads(note.read_text(encoding="utf-8"))
        if {**noted, **known} == noted:
            return noted["sha256"]
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    note_down(note, {**known, "sha256": digest})
    return digest


def note_down(file: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file into the cache; a reader sees all of it or nothing."""
    with suppress(OSError):  # a cache that cannot be written costs time, never a run
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}.{os.getpid()}")
        fresh.write_text(json.dumps(value), encoding="utf-8")
        fresh.replace(file)


def name_of(what: Any) -> str:
    """A file's name for what depends on all of this; paths and other objects count as their text.

    Example:
        >>> name_of({"a": 1, "b": Path("x")}) == name_of({"b": "x", "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:32]


def stamp(path: Path) -> list[list[Any]]:
    """Name, size and time of change of a file, or of each in a folder; nothing where there is none."""
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files if f.is_file()]


OURS = ("core", "plugins")


def code_of(part: Any) -> list[str]:
    """The class of a part, and all files of the packages that it and what it builds on come from.

    Whoever writes a part changes it, or what it imports, without a new version. Of ours the files are those beside the
    class: the rest goes with the version that is part of a key. Other packages (torch, transformers) have versions.
    """
    cls = type(part)
    own = cls.__module__.partition(".")[0]
    classes = [base for base in cls.__mro__ if base.__module__.partition(".")[0] in (own, *OURS)]
    files = {file for base in classes for file in _beside(Path(inspect.getfile(base)), base.__module__)}
    return [cls.__qualname__, *(file_hash(file) for file in sorted(files))]


def code_at(module: str) -> list[str]:
    """The same for a module that is not imported."""
    spec = find(module)
    if spec is None or spec.origin is None:
        return []
    return [file_hash(file) for file in sorted(_beside(Path(spec.origin), module))]


def _beside(file: Path, module: str) -> list[Path]:
    """The whole package of a stranger's module, the folder of one of the core, that of a plugin with all below it."""
    package, *inside = module.split(".")
    if package == "plugins" and len(inside) > 1:
        return list(file.parents[len(inside) - 2].rglob("*.py"))
    if package in OURS or not inside:
        return list(file.parent.glob("*.py")) if inside else [file]
    return list(file.parents[len(inside) - 1].rglob("*.py"))
