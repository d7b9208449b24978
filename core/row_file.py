"""Rows on disk: canonical rows as lines of JSON, read one at a time, so that a set may be larger than memory."""

from __future__ import annotations

import hashlib
import json
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar, cast, overload

from core.contracts import Row
from core.errors import RowError, UserError

IN_MEMORY = 32 * 2**20
"""Bytes of rows that stay in memory; what is more goes to a temporary file."""

T = TypeVar("T")


def row_key(row: Row) -> str:
    """A row's content as text, the same for equal rows.

    Example:
        >>> row_key({"b": 1, "a": "x"}) == row_key({"a": "x", "b": 1})
        True
    """
    return json.dumps(dict(row), sort_keys=True, default=str)


class RowFile:
    """Rows with the place each came from; an unusable one is a ``RowError`` in its place.

    Attributes:
        starts: Where each line begins in the file.
        hashes: Of the content of each row, wherever it came from.
    """

    def __init__(self) -> None:
        self.file: IO[bytes] = cast("IO[bytes]", tempfile.SpooledTemporaryFile(IN_MEMORY))  # noqa: SIM115  # it lives as long as the rows
        self.starts = array("Q")
        self.hashes = array("Q")
        self.end = 0

    @classmethod
    def open(cls, path: Path) -> RowFile:
        """Rows that were written to a file of their own; their hashes are not known."""
        found = cls()
        found.file = path.open("rb")
        for line in found.file:
            found.starts.append(found.end)
            found.end += len(line)
        return found

    @staticmethod
    def line(row: Row | RowError, origin: str) -> bytes:
        """A row as it stands in the file; its content is behind the tabulator, which JSON escapes everywhere else."""
        bad = isinstance(row, RowError)
        said = json.dumps([row.field, row.what]) if bad else row_key(row)
        return f'{{"origin": {json.dumps(origin)}, "{"error" if bad else "row"}":\t{said}}}\n'.encode()

    def append(self, row: Row | RowError, origin: str) -> None:
        """Add a row.

        Raises:
            UserError: there is no room for it.
        """
        line = self.line(row, origin)
        content = hashlib.blake2b(line[line.index(b"\t") :], digest_size=8).digest()
        self.hashes.append(int.from_bytes(content, "little"))
        self.starts.append(self.end)
        try:
            self.file.seek(self.end)
            self.end += self.file.write(line)
        except OSError as error:
            raise UserError(
                f"{tempfile.gettempdir()} cannot be written: {error.strerror or error}",
                "TMPDIR=FOLDER with room in front of the command",
            ) from error

    def __len__(self) -> int:
        """How many there are."""
        return len(self.starts)

    def record(self, index: int) -> dict[str, Any]:
        """What one line says."""
        self.file.seek(self.starts[index])
        return json.loads(self.file.readline())

    def row(self, index: int) -> Row | RowError:
        """A row, or what is wrong with it."""
        found = self.record(index)
        return found["row"] if "row" in found else RowError(*found["error"])

    def origin(self, index: int) -> str:
        """Where it came from."""
        return self.record(index)["origin"]


class Listed(Sequence[T]):
    """A sequence that is computed one item at a time.

    Args:
        get: Item of an index of ``chosen``.
        chosen: Which items, in order.
    """

    def __init__(self, get: Callable[[int], T], chosen: Sequence[int]) -> None:
        self.get = get
        self.chosen = chosen

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        """An item, or a list of some."""
        if isinstance(at, slice):
            return [self.get(i) for i in self.chosen[at]]
        return self.get(self.chosen[at])

    def __len__(self) -> int:
        """How many there are."""
        return len(self.chosen)

    def __iter__(self) -> Iterator[T]:
        """One after the other."""
        return (self.get(i) for i in self.chosen)

    def __eq__(self, other: object) -> bool:
        """Equal to any sequence of equal items."""
        if not isinstance(other, (Listed, list, tuple)):
            return NotImplemented
        others = cast("Sequence[Any]", other)
        return len(self) == len(others) and all(_same(a, b) for a, b in zip(self, others, strict=True))

    __hash__ = None  # pyright: ignore[reportAssignmentType]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, RowError) and isinstance(other, RowError):
        return str(one) == str(other)
    return one == other
