"""What a plugin does to the process while its modules are imported: hidden, put back where it can be, and named."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO


@contextmanager
def watched() -> Generator[list[str]]:
    """While inside, nothing is printed; afterwards the current folder and the command line are as before.

    Yields:
        A list of what was done, half a sentence each; filled when it is over.
    """
    did: list[str] = []
    folder, typed, environment = _folder(), [*sys.argv], dict(os.environ)
    said = io.StringIO()
    with TemporaryFile() as raw:
        try:
            with redirect_stdout(said), redirect_stderr(io.StringIO()), _output_to(raw):
                yield did
        finally:
            if said.getvalue() or raw.seek(0, os.SEEK_END):
                did.append("prints")
            if folder is not None and _folder() != folder:
                os.chdir(folder)
                did.append("changes the current folder")
            if sys.argv != typed:
                sys.argv[:] = typed
                did.append("changes the command line")
            changed = sorted({name for name, _ in environment.items() ^ dict(os.environ).items()})
            if changed:
                did.append(f"changes {', '.join(changed)} in the environment")


def _folder() -> Path | None:
    """None where it was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


@contextmanager
def _output_to(file: IO[bytes]) -> Generator[None]:
    """While inside, what child processes and libraries in C print goes there too."""
    try:
        kept = os.dup(1)
    except OSError:  # it is closed
        yield
        return
    try:
        os.dup2(file.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
