"""Bytes of a file: as it is, compressed, in a zip archive, or from standard input."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shlex
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, TextIO, cast

from core.api import UserError

STDIN = Path("-")
"""Standard input, one JSON object a line."""


def _zstd(file: Path) -> IO[bytes]:
    import pyarrow as pa

    return cast("IO[bytes]", io.BufferedReader(cast("Any", pa.input_stream(str(file), compression="zstd"))))


def _zip(file: Path) -> IO[bytes]:
    try:
        return zipfile.ZipFile(file).open(_inside(file))
    except RuntimeError as error:  # it has a password, or is packed in a way that Python does not know
        raise UserError(f"{file} cannot be unpacked: {error}", f"unzip {shlex.quote(str(file))}") from error


def _inside(archive: Path) -> str:
    """The one file in it, but for what macOS adds.

    Raises:
        UserError: there are none, or several, or it is no archive.
    """
    try:
        names = [name for name in zipfile.ZipFile(archive).namelist() if not name.endswith("/")]
    except zipfile.BadZipFile as error:
        raise UserError(f"{archive} is no zip archive, or damaged: {error}", "copy it again") from error
    names = [name for name in names if not name.startswith("__MACOSX/")]
    if len(names) != 1:
        where = shlex.quote(str(archive.with_suffix("")))
        unpack = f"unzip -d {where} {shlex.quote(str(archive))}"
        raise UserError(f"{archive} holds {len(names)} files", f"{unpack}, then data.train={where}")
    return names[0]


COMPRESSED: Mapping[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _zstd,
    ".zip": _zip,
}
"""Suffix behind the file's own -> what opens it."""


def suffix_of(file: Path) -> str:
    """What kind it is, compressed or not.

    Example:
        >>> suffix_of(Path("rows.JSONL.gz")), suffix_of(Path("-"))
        ('.jsonl', '.jsonl')
    """
    if file == STDIN:
        return ".jsonl"
    last = file.suffix.lower()
    plain = Path(_inside(file)) if last == ".zip" else file.with_suffix("") if last in COMPRESSED else file
    return plain.suffix.lower()


def opened(file: Path) -> IO[bytes]:
    """What is in a file, decompressed."""
    if file == STDIN:
        return open(_kept(sys.stdin).name, "rb")  # whoever reads closes it
    opener = COMPRESSED.get(file.suffix.lower())
    return cast("IO[bytes]", opener(file)) if opener else file.open("rb")


@lru_cache(maxsize=1)
def _kept(stream: TextIO) -> IO[bytes]:
    """All of a stream in a temporary file, for as long as the process lives: each job of a sweep reads it again."""
    kept = tempfile.NamedTemporaryFile()  # noqa: SIM115
    shutil.copyfileobj(stream.buffer, kept)
    kept.flush()
    return kept


@contextmanager
def plainly(file: Path) -> Generator[Any]:
    """A file that can be read from any place: itself, or decompressed into a temporary one."""
    if file.suffix.lower() not in COMPRESSED:
        with file.open("rb") as stream:
            yield stream
        return
    with tempfile.TemporaryFile() as plain, opened(file) as stream:
        shutil.copyfileobj(stream, plain)
        plain.seek(0)
        yield plain
