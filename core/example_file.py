"""Encoded examples as Arrow record batches, in memory or mapped from a file.

A sequence is its ids and the runs of its loss weights: how long each run is and what it weighs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from core.contracts import Example, Tokens
from core.errors import UserError
from core.row_file import Listed

ROW, HASH, PROMPT = "\0row", "\0hash", "\0prompt"
"""Columns of ours: which row an example is of, its content, and what it holds before its last answer (0: nothing)."""

IDS, RUNS, WEIGHTS = "\0ids", "\0runs", "\0weights"
"""Behind the name of a sequence."""


def record_batch(examples: Sequence[Example], rows: Sequence[int], borrowed: Collection[str] = ()) -> pa.RecordBatch:
    """Examples of one objective, which all have the same names.

    Args:
        examples: One or more.
        rows: The row that each is of.
        borrowed: Sequences that do not tell rows apart.
    """
    columns: dict[str, pa.Array] = {}
    for name, first in examples[0].items():
        if not isinstance(first, Tokens):
            columns[name] = pa.array([float(cast(Any, e[name])) for e in examples], pa.float64())
            continue
        runs = [_runs(cast(Tokens, e[name]).loss_weights) for e in examples]
        columns[name + IDS] = pa.array([cast(Tokens, e[name]).ids for e in examples], pa.list_(pa.int32()))
        columns[name + RUNS] = pa.array([lengths for lengths, _ in runs], pa.list_(pa.int32()))
        columns[name + WEIGHTS] = pa.array([weights for _, weights in runs], pa.list_(pa.float32()))
    columns[ROW] = pa.array(rows, pa.int64())
    columns[HASH] = pa.array([_hash(e, borrowed) for e in examples], pa.uint64())
    columns[PROMPT] = pa.array([_prompt(e, borrowed) for e in examples], pa.uint64())
    return pa.RecordBatch.from_pydict(columns)


def _runs(weights: Sequence[float]) -> tuple[Any, Any]:
    if not len(weights):
        return [], []
    each = np.asarray(weights, np.float32)
    starts = np.concatenate([[0], np.flatnonzero(each[1:] != each[:-1]) + 1])
    return np.diff(starts, append=len(each)).astype(np.int32), each[starts]


def _hash(example: Example, borrowed: Collection[str]) -> int:
    digest = blake2b(digest_size=8)
    for name, value in example.items():
        if name in borrowed:
            continue
        if isinstance(value, Tokens):
            digest.update(np.asarray(value.ids, np.int32).tobytes() + b"|")
        else:
            digest.update(f"{name}={value}".encode())
    return int.from_bytes(digest.digest(), "little")


def _prompt(example: Example, borrowed: Collection[str]) -> int:
    """Of the tokens before the last run of supervised ones; what answers share, so that the first sequence does."""
    own = (value for name, value in example.items() if isinstance(value, Tokens) and name not in borrowed)
    first = next(own, Tokens([], []))
    learned = np.flatnonzero(np.asarray(first.loss_weights))
    before = np.flatnonzero(np.diff(learned) > 1)
    end = int(learned[before[-1] + 1 if len(before) else 0]) if len(learned) else 0
    if end < 2:  # nothing, or the token that every sequence begins with
        return 0
    return int.from_bytes(blake2b(np.asarray(first.ids[:end], np.int32).tobytes(), digest_size=8).digest(), "little")


class ExampleFile:
    """Examples, decoded when they are asked for.

    Args:
        batches: Of one schema.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        self.batches = [batch for batch in batches if batch.num_rows]
        self.ends: list[int] = np.cumsum([batch.num_rows for batch in self.batches], dtype=np.int64).tolist()
        self.names = [n for n in self.batches[0].schema.names if n not in (ROW, HASH, PROMPT)] if self.batches else []

    @classmethod
    def open(cls, path: Path) -> ExampleFile:
        """Examples that ``save`` wrote, mapped into memory."""
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return cls([reader.get_batch(i) for i in range(reader.num_record_batches)])

    def __len__(self) -> int:
        """How many there are."""
        return self.ends[-1] if self.ends else 0

    def example(self, index: int) -> Example:
        """One of them."""
        at = bisect_right(self.ends, index)
        batch, i = self.batches[at], index - (self.ends[at - 1] if at else 0)
        found: dict[str, Tokens | float] = {}
        for name in self.names:
            if name.endswith(IDS):
                plain = name.removesuffix(IDS)
                lengths, weights = _values(batch, plain + RUNS, i), _values(batch, plain + WEIGHTS, i)
                found[plain] = Tokens(_values(batch, name, i).tolist(), np.repeat(weights, lengths).tolist())
            elif not name.endswith((RUNS, WEIGHTS)):
                found[name] = cast(float, batch.column(name)[i].as_py())
        return found

    def listed(self) -> Sequence[Example]:
        """All of them."""
        return Listed(self.example, range(len(self)))

    def column(self, name: str) -> Any:
        """(examples,) values of a column of ours, or lengths of a sequence when ``name`` is one."""
        if not self.batches:
            return np.zeros(0, np.int64)
        if name in (ROW, HASH, PROMPT):
            return np.concatenate([batch.column(name).to_numpy() for batch in self.batches])
        offsets = [cast(Any, batch.column(name + IDS)).offsets.to_numpy() for batch in self.batches]
        return np.concatenate([np.diff(each) for each in offsets])

    def owners(self) -> Any:
        """(examples,) number of the row that each is of, among the rows that could be used."""
        return np.unique(self.column(ROW), return_inverse=True)[1]

    def lengths(self) -> Any:
        """(examples,) tokens of all sequences of an example."""
        names = [name.removesuffix(IDS) for name in self.names if name.endswith(IDS)]
        return sum((self.column(name) for name in names), np.zeros(len(self), np.int64))


def _values(batch: pa.RecordBatch, name: str, index: int) -> Any:
    column = cast(Any, batch.column(name))
    start, end = column.offsets[index].as_py(), column.offsets[index + 1].as_py()
    return column.values.to_numpy()[start:end]


class Writer:
    """Record batches one after the other, to a file or kept in memory.

    Args:
        path: The file; None keeps them.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.kept: list[pa.RecordBatch] = []
        self.stream: Any = None

    def write(self, batch: pa.RecordBatch | None) -> None:
        """Add one.

        Raises:
            UserError: there is no room for it.
        """
        if batch is None:
            return
        if self.path is None:
            self.kept.append(batch)
            return
        with _room(self.path):
            if self.stream is None:
                self.stream = pa.ipc.new_file(str(self.path), batch.schema)
            self.stream.write_batch(batch)

    def close(self) -> ExampleFile:
        """What was written.

        Raises:
            UserError: there is no room for it.
        """
        if self.stream is None or self.path is None:
            return ExampleFile(self.kept)
        with _room(self.path):
            self.stream.close()
        return ExampleFile.open(self.path)


@contextmanager
def _room(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path.parent.parent} cannot be written: {error.strerror or error}",
            "HOOKTUNE_CACHE=FOLDER with room in front of the command, or data.cache=false to hold the rows in memory",
        ) from error
