"""json, jsonl, csv and parquet files, each row with the line it stands on."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from core.api import DataSource, Row, RowError, UserError
from plugins.jsonl.options import FilesOptions

Read = Iterator[tuple[int, Row | RowError]]
"""(line, from 1; row), one after the other."""


class Files(DataSource):
    """One file to train on and, if given, one to validate on; how it is read depends on its suffix."""

    def __init__(self, options: FilesOptions) -> None:
        self.options = options
        self.lines: dict[str, list[int]] = {}

    def rows(self, split: Literal["train", "validation"]) -> Sequence[Row | RowError] | None:
        """All rows of the file; None when no validation file is given.

        Raises:
            UserError: there is no such file, or it is empty or of an unknown kind.
        """
        name = self.options.train if split == "train" else self.options.validation
        if name is None:
            return None
        file = _checked(Path(name).expanduser(), split)
        found = list(_reader(file, split)(file))
        if not found:
            raise UserError(f"data.{split}={name} holds no row", f"data.{split}=FILE with rows in it")
        self.lines[split] = [line for line, _ in found]
        return [row for _, row in found]

    def origin(self, split: str, index: int) -> str:
        """File and line."""
        name = self.options.train if split == "train" else self.options.validation
        return f"{name}:{self.lines[split][index]}"


def _checked(file: Path, split: str) -> Path:
    if file.is_dir():
        inside = sorted(f.name for f in file.iterdir() if f.suffix in READERS)
        raise UserError(
            f"data.{split}={file} is a folder", f"data.{split}={file / (inside[0] if inside else 'FILE.jsonl')}"
        )
    if not file.exists():
        beside = [f.name for f in file.parent.iterdir()] if file.parent.is_dir() else []
        near = get_close_matches(file.name, beside, 1)
        hint = (
            f"did you mean {file.parent / near[0]}?" if near else f"data.{split}=FILE.jsonl (or .json, .csv, .parquet)"
        )
        raise UserError(f"data.{split}={file} does not exist", hint)
    if file.stat().st_size == 0:
        raise UserError(f"data.{split}={file} is empty", f"data.{split}=FILE with rows in it")
    return file


def _reader(file: Path, split: str) -> Callable[[Path], Read]:
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise UserError(
            f"data.{split}={file}: {file.suffix or 'no'} suffix is not known", f"one of {', '.join(READERS)}"
        )
    return reader


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # a byte-order mark is read as if absent
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}", f"ls -l {file}") from error
    except UnicodeDecodeError as error:
        raw = file.read_bytes()
        line = raw[: error.start].count(b"\n") + 1
        was = "UTF-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "LATIN1"
        raise UserError(
            f"{file}:{line}: is not UTF-8", f"iconv -f {was} -t UTF-8 {shlex.quote(str(file))} > utf8{file.suffix}"
        ) from error


def _jsonl(file: Path) -> Read:
    for line, text in enumerate(_text(file).split("\n"), 1):
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
    text = _text(file)
    # spreadsheets write what the country separates lists with
    first = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
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
        table = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file} is no parquet file: {str(error).splitlines()[0]}", "write it again") from error
    yield from enumerate(table.to_pylist(), 1)


READERS: Mapping[str, Callable[[Path], Any]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
