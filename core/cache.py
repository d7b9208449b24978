"""Where the results of slow work are kept from one run to the next, and the hashes of large files."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """``HOOKTUNE_CACHE``, else the user's cache directory."""
    return Path(os.environ.get("HOOKTUNE_CACHE") or user_cache_path("hooktune")).absolute()


def file_hash(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal; remembered for as long as path, size and time of change stay.

    Raises:
        OSError: the file cannot be read.
    """
    file = file.resolve()
    stat = file.stat()
    known = {"path": str(file), "size": stat.st_size, "changed": stat.st_mtime_ns}
    note = cache_folder() / "hashes" / f"{hashlib.sha256(str(file).encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError):
        noted = json.loads(note.read_text(encoding="utf-8"))
        if {**noted, **known} == noted:
            return noted["sha256"]
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    with suppress(OSError):  # a cache that cannot be written costs time, never a run
        note.parent.mkdir(parents=True, exist_ok=True)
        fresh = note.with_name(f".{note.name}.{os.getpid()}")
        fresh.write_text(json.dumps({**known, "sha256": digest}), encoding="utf-8")
        fresh.replace(note)
    return digest
