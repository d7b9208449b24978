"""Rows of one file, one after the other, each with the line it stands on."""

from __future__ import annotations

import csv
import io
import json
import lzma
import shlex
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from core.api import Row, RowError, UserError
from plugins.jsonl.containers import opened, plainly, suffix_of

Read = Iterator[tuple[int, Row | RowError]]
"""(line, from 1; row), one after the other."""


def read(file: Path) -> Read:
    """Rows of a file; how it is read depends on its suffix.

    Raises:
        UserError: it cannot be read as what it says it is.
    """
    try:
        yield from READERS[suffix_of(file)](file)
    except OSError as error:
        raise UserError(
            f"{file} cannot be read: {error.strerror or error}", f"ls -l {shlex.quote(str(file))}"
        ) from error
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} breaks off or is damaged: {error}", "copy it again") from error


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines without their ends, from 1; a byte-order mark and CRLF are read as if absent."""
    with opened(file) as stream:
        for number, raw in enumerate(stream, 1):
            raw = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            yield number, _decoded(raw, file, number).rstrip("\r\n")


def _decoded(raw: bytes, file: Path, line: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        was = "UTF-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "LATIN1"
        line += raw[: error.start].count(b"\n")
        raise UserError(
            f"{file}:{line}: is not UTF-8", f"iconv -f {was} -t UTF-8 {shlex.quote(str(file))} > utf8{file.suffix}"
        ) from error


def _text(file: Path) -> str:
    """All of a file that cannot be read line by line."""
    with opened(file) as stream:
        return _decoded(stream.read().removeprefix(b"\xef\xbb\xbf"), file, 1).replace("\r\n", "\n").replace("\r", "\n")


def _jsonl(file: Path) -> Read:
    for line, text in _lines(file):
        if text.strip():
            yield line, _object(text)


def _object(text: str) -> Row | RowError:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return RowError("", _not_json(error))
    return row if isinstance(row, dict) else RowError("", "is not an object")


def _not_json(error: ValueError | RecursionError) -> str:
    """Column only: the line that json counts is that of the text it was given."""
    if isinstance(error, RecursionError):
        return "not JSON: nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at column {error.colno}"
    return f"not JSON: {error}"


def _json(file: Path) -> Read:
    """An array of objects, or one object a line under the wrong suffix."""
    text = _text(file)
    if text.lstrip().startswith("["):
        yield from _array(text)
        return
    _refuse_wrapped(file, text)
    yield from _jsonl(file)


def _refuse_wrapped(file: Path, text: str) -> None:
    """One object over several lines, with the rows in a list inside it."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return
    lists = [key for key, value in whole.items() if isinstance(value, list)] if isinstance(whole, dict) else []
    if len(lists) == 1 and "\n" in text.strip():
        raise UserError(
            f"{file} is one object; its rows seem to be the list {lists[0]!r}",
            f"jq -c '.{lists[0]}[]' {shlex.quote(str(file))} > {shlex.quote(file.stem + '.jsonl')}",
        )


def _array(text: str) -> Read:
    decoder, at = json.JSONDecoder(), text.index("[") + 1
    line, counted = 1, 0
    while True:
        at = _next(text, at)
        line, counted = line + text.count("\n", counted, at), at
        if text[at : at + 1] == "]":
            if text[at + 1 :].strip():
                yield line, RowError("", "not JSON: the file goes on after its array")
            return
        try:
            row, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            what = _not_json(error) if at < len(text) else "not JSON: the array does not end"
            yield line, RowError("", f"{what}; nothing after it is read")
            return
        yield line, row if isinstance(row, dict) else RowError("", "is not an object")
        end = _next(text, at)
        line, counted = line + text.count("\n", counted, end), end
        if text[end : end + 1] == ",":
            at = end + 1
        elif end < len(text) and text[end] != "]":
            yield line, RowError("", "not JSON: a comma is missing before it; nothing after it is read")
            return


def _next(text: str, at: int) -> int:
    """Where the white space ends."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _csv(file: Path) -> Read:
    csv.field_size_limit(2**31 - 1)
    lines = _universal(file)
    blank: list[str] = []
    while (first := next(lines, "")) and not first.strip():
        blank.append(first)
    # spreadsheets write what the country separates lists with
    separator = max(",;\t", key=first.count)
    reader = csv.reader(chain(blank, [first], lines), strict=True, delimiter=separator)
    header: Sequence[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield line, RowError("", f"not CSV: {error}")
            continue
        if cells is None:
            return
        if cells and not header:
            header = _header(file, cells)
        elif cells:
            yield line, _cells(header, cells)


def _universal(file: Path) -> Iterator[str]:
    """Lines with their ends, which are those of any system; no more than one is in memory."""
    with opened(file) as stream:
        try:
            yield from io.TextIOWrapper(stream, "utf-8-sig", newline=None)
        except UnicodeDecodeError:
            _text(file)  # says where
            raise


def _header(file: Path, cells: Sequence[str]) -> Sequence[str]:
    twice = [name for name in cells if cells.count(name) > 1]
    if twice:
        raise UserError(f"{file}: two columns are called {twice[0]!r}", "give each column a name of its own")
    return cells


def _cells(header: Sequence[str], cells: Sequence[str]) -> Row | RowError:
    if len(cells) != len(header):
        return RowError("", f"has {len(cells)} columns, the header has {len(header)}")
    return dict(zip(header, cells, strict=True))


def _parquet(file: Path) -> Read:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with plainly(file) as source:
            table: Any = pq.ParquetFile(source)
            yield from _batches(table.iter_batches(1000))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} is no parquet file: {str(error).splitlines()[0]}", "write it again") from error


def _arrow(file: Path) -> Read:
    """Arrow's file or stream format; the second is what ``datasets`` saves."""
    import pyarrow as pa

    try:
        with plainly(file) as source:
            magic = source.read(6)
            source.seek(0)
            if magic == b"ARROW1":
                reader: Any = pa.ipc.open_file(source)
                yield from _batches(reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                yield from _batches(pa.ipc.open_stream(source))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} is no arrow file: {str(error).splitlines()[0]}", "write it again") from error


def _batches(batches: Any) -> Read:
    row = 0
    for batch in batches:
        for found in batch.to_pylist():
            row += 1
            yield row, found


def _plain(file: Path) -> Read:
    """A text a line."""
    for line, text in _lines(file):
        if text.strip():
            yield line, {"text": text}


READERS: Mapping[str, Callable[[Path], Read]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".txt": _plain,
}
"""Suffix -> what reads it."""
