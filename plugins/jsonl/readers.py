"""Rows of one file, one after the other, each with the line it stands on."""

from __future__ import annotations

import csv
import json
import lzma
import re
import shlex
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from core.api import Row, RowError, UserError, without_filler
from plugins.jsonl.containers import STDIN, plainly, suffix_of
from plugins.jsonl.text import lines, shown, whole

Read = Iterator[tuple[int, Row | RowError]]
"""(line, from 1; row), one after the other."""


def read(file: Path) -> Read:
    """Rows of a file; how it is read depends on its suffix.

    Raises:
        UserError: it cannot be read as what it says it is.
    """
    try:
        yield from READERS[suffix_of(file)](file)
    except EOFError as error:
        raise UserError(f"{shown(file)} breaks off: {error}", "copy it again") from error
    except (OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        if (said := getattr(error, "strerror", None)) is None:  # of a library, about what it was given
            raise UserError(
                f"{shown(file)} is damaged, or not what its suffix says: {error}", "copy it again"
            ) from error
        raise UserError(f"{shown(file)} cannot be read: {said}", f"ls -l {shlex.quote(str(file))}") from error


def _jsonl(file: Path) -> Read:
    first = True
    for line, text in lines(file):
        if text.strip():
            if first:
                _refuse_layout(file, line, text.strip())
            first = False
            yield line, _object(text)


def _refuse_layout(file: Path, line: int, text: str) -> None:
    """An array, or objects over several lines, as its first line tells: each further line would be an error."""
    if text.startswith("[") or text == "{":
        what, each = ("is an array", ".[]") if text != "{" else ("begins an object that goes on in the next line", ".")
        new = shlex.quote(file.name.split(".")[0] + "-lines.jsonl")
        name = f"name it {file.name.replace('.jsonl', '.json')}, or: " if text != "{" and ".jsonl" in file.name else ""
        raise UserError(
            f"{shown(file)}:{line}: {what}: each line must hold a whole object",
            "write one object a line" if file == STDIN else f"{name}jq -c '{each}' {shlex.quote(str(file))} > {new}",
        )


def _object(text: str) -> Row | RowError:
    if "\0" in text:
        return RowError("", "holds NUL bytes: the file was cut off while it was written, or is no text")
    try:
        row = JSON.decode(text)
    except (ValueError, RecursionError) as error:
        python = "; it looks like Python's own form: json.dumps writes JSON" if text.lstrip().startswith("{'") else ""
        return RowError("", f"{_not_json(error)}{python}")
    return row if isinstance(row, dict) else RowError("", "is not an object")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; JSON would let the last of two equal keys win without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice!r} is there twice")
    return found


JSON = json.JSONDecoder(object_pairs_hook=_once)


def _not_json(error: ValueError | RecursionError) -> str:
    """Column only: the line that json counts is that of the text it was given."""
    if isinstance(error, RecursionError):
        return "not JSON: nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
    return f"not JSON: {str(error).partition('; use sys.')[0]}"


def _json(file: Path) -> Read:
    """An array of objects, or one object a line under the wrong suffix."""
    text = whole(file)
    if text.lstrip().startswith("["):
        yield from _array(text)
        return
    _refuse_wrapped(file, text)
    yield from _jsonl(file)


def _refuse_wrapped(file: Path, text: str) -> None:
    """One object with the rows in a list inside it."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return
    lists = [key for key, value in found.items() if _are_rows(value)] if isinstance(found, dict) else []
    if len(lists) == 1:
        raise UserError(
            f"{file} is one object; its rows seem to be the list {lists[0]!r}",
            f"jq -c '.{lists[0]}[]' {shlex.quote(str(file))} > {shlex.quote(file.stem + '.jsonl')}",
        )


def _are_rows(value: Any) -> bool:
    """Whether it is a list of objects that are no messages, tools or calls of them, which stand in a row."""
    of_row = {"role", "from", "function", "type"}
    return isinstance(value, list) and bool(value) and all(isinstance(o, dict) and not of_row & o.keys() for o in value)


def _array(text: str) -> Read:
    at, line, counted = text.index("[") + 1, 1, 0
    while True:
        at = _next(text, at)
        line, counted = line + text.count("\n", counted, at), at
        if text[at : at + 1] == "]":
            if text[at + 1 :].strip():
                yield line, RowError("", "not JSON: the file goes on after its array")
            return
        try:
            row, at = JSON.raw_decode(text, at)
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
    ended = _ended(file)
    blank: list[str] = []
    while (first := next(ended, "")) and not first.strip():
        blank.append(first)
    # spreadsheets write what the country separates lists with, and some of them say which
    if said := re.fullmatch(r"sep=(.)", first.strip("\ufeff\r\n ")):
        blank, first = [*blank, "\n"], next(ended, "")
    separator = said[1] if said else max(",;\t", key=first.count)
    reader = csv.reader(chain(blank, [first], ended), strict=True, delimiter=separator)
    header: Sequence[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield line, RowError("", _not_csv(error, line, reader.line_num))
            continue
        if cells is None:
            return
        if cells and not header:
            header = _header(file, cells)
        elif cells:
            yield line, _cells(header, cells)


def _not_csv(error: csv.Error, line: int, last: int) -> str:
    lost = f"; lines {line:,} to {last:,} are lost" if last > line else ""
    if "unexpected end" in str(error):
        return f"not CSV: a quote is opened and never closed{lost}"
    return f"not CSV: {error}{lost}"


def _ended(file: Path) -> Iterator[str]:
    """Lines with their ends, which are those of any system; no more than one is in memory."""
    for _, text in lines(file):
        yield from (f"{line}\n" for line in text.split("\r"))


def _header(file: Path, cells: Sequence[str]) -> Sequence[str]:
    names = [name.strip() for name in cells]
    _refuse_twice(file, names)
    return names


def _refuse_twice(file: Path, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        what = f"are called {twice!r}" if twice else "have no name"
        raise UserError(f"{file}: two columns {what}", "give each column a name of its own")


def _cells(header: Sequence[str], cells: Sequence[str]) -> Row | RowError:
    if len(cells) != len(header):
        return RowError("", f"has {len(cells)} column{'' if len(cells) == 1 else 's'}, the header has {len(header)}")
    if list(header) == [cell.strip() for cell in cells]:
        return RowError("", "is the header once more")
    return dict(zip(header, cells, strict=True))


def _parquet(file: Path) -> Read:
    import pyarrow.parquet as pq

    with _binary(file, "parquet"), plainly(file) as source:
        table: Any = pq.ParquetFile(source)
        _refuse_twice(file, table.schema_arrow.names)
        yield from _batches(table.iter_batches(1000))


def _arrow(file: Path) -> Read:
    """Arrow's file or stream format; the second is what ``datasets`` saves."""
    import pyarrow as pa

    with _binary(file, "arrow"), plainly(file) as source:
        magic = source.read(6)
        source.seek(0)
        reader: Any = pa.ipc.open_file(source) if magic == b"ARROW1" else pa.ipc.open_stream(source)
        _refuse_twice(file, reader.schema.names)
        counted = (reader.get_batch(i) for i in range(reader.num_record_batches)) if magic == b"ARROW1" else reader
        yield from _batches(counted)


@contextmanager
def _binary(file: Path, kind: str) -> Generator[None]:
    """Whatever is found wrong with a file of tables is the file's fault."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} is no {kind} file: {str(error).partition(chr(10))[0]}", "write it again") from error


def _batches(batches: Any) -> Read:
    line = 0
    for batch in batches:
        for row in _rows(batch):
            line += 1
            yield line, row if isinstance(row, RowError) else without_filler(row)


def _rows(batch: Any) -> Sequence[Row | RowError]:
    """A batch's rows; one at a time where a value among them is none that Python knows."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError):
        return [_row(batch.slice(i, 1)) for i in range(batch.num_rows)]


def _row(batch: Any) -> Row | RowError:
    row: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[0].as_py()
        except (ValueError, OverflowError) as error:
            return RowError(name, f"cannot be read: {error}")
    return row


def _plain(file: Path) -> Read:
    """A text a line."""
    for line, text in lines(file):
        if text.strip():
            yield line, {"text": text}


READERS: Mapping[str, Callable[[Path], Read]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".txt": _plain,
}
"""Suffix -> what reads it."""
