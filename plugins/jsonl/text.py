"""The text of a file, whatever it is packed in; what is no UTF-8 is refused with what to do about it."""

from __future__ import annotations

import codecs
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from core.api import UserError
from plugins.jsonl.containers import COMPRESSED, STDIN, opened

MAGIC: Mapping[bytes, str] = {
    b"PAR1": "a parquet file",
    b"ARROW1": "an arrow file",
    b"\x1f\x8b": "packed by gzip (.gz)",
    b"BZh": "packed by bzip2 (.bz2)",
    b"\xfd7zXZ": "packed by xz (.xz)",
    b"\x28\xb5\x2f\xfd": "packed by zstd (.zst)",
    b"PK\x03\x04": "a zip file, as those of Excel are",
}
"""How files begin that are no text -> what they are."""

ZEROS: Mapping[tuple[int, ...], str] = {
    (1, 3): "UTF-16LE",
    (0, 2): "UTF-16BE",
    (1, 2, 3): "UTF-32LE",
    (0, 1, 2): "UTF-32BE",
}
"""Which of the first four bytes are zero -> the encoding, where no mark tells it."""


def shown(file: Path) -> str:
    """What a file is called in messages."""
    return "stdin" if file == STDIN else str(file)


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines without their ends, from 1; a byte-order mark and CRLF are read as if absent.

    Raises:
        UserError: the file is not UTF-8.
    """
    with opened(file) as stream:
        for number, raw in enumerate(stream, 1):  # files that were joined have a mark in the middle, too
            yield number, _decoded(raw.removeprefix(codecs.BOM_UTF8), file, number).rstrip("\r\n")


def whole(file: Path) -> str:
    """All of a file that cannot be read line by line.

    Raises:
        UserError: the file is not UTF-8.
    """
    with opened(file) as stream:
        return _decoded(stream.read().removeprefix(codecs.BOM_UTF8), file, 1).replace("\r\n", "\n").replace("\r", "\n")


def _decoded(raw: bytes, file: Path, line: int) -> str:
    wide = _wide(raw) if line == 1 else ""
    start = 0
    try:
        if not wide:
            return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        start = error.start
    for magic, kind in MAGIC.items() if line == 1 else ():
        if raw.startswith(magic):
            raise UserError(
                f"{shown(file)} is {kind}, not what its suffix says", "give it its own suffix, or convert it"
            )
    line += raw[:start].count(b"\n")
    # what Windows calls ANSI; where ISO 8859-1 has text in the same bytes it is the same text
    mend = f"iconv -f {wide or 'WINDOWS-1252'} -t UTF-8"
    if file == STDIN or file.suffix.lower() in COMPRESSED:
        mend += ", before it is piped or packed"
    else:
        mend += f" {shlex.quote(str(file))} > utf8{file.suffix}"
    raise UserError(f"{shown(file)}:{line}: is not UTF-8", mend)


def _wide(raw: bytes) -> str:
    """UTF-16 or UTF-32, as the mark at its start tells, or the zeros among its first bytes; else empty."""
    if raw.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    return ZEROS.get(tuple(at for at, byte in enumerate(raw[:4]) if not byte), "")
