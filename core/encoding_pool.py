"""Chunks of rows, encoded in this process or by several."""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path

from core.contracts import Row
from core.encoding import Chunk, Encoder
from core.errors import RowError

Group = Sequence[tuple[int, Row | RowError]]
"""Rows with their indices."""

CHUNK = 1000
"""Rows of a chunk."""

WORTH_PROCESSES = 20_000
"""Rows from which other processes are started: each takes seconds until it works."""


def chunks(encoder: Encoder, rows: Iterable[tuple[int, Row | RowError]], number: int) -> Iterator[Chunk]:
    """Chunks in the order of the rows, by all cores when there are many rows.

    Args:
        encoder: What encodes them.
        rows: Index and row.
        number: How many there are.
    """
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pickled = _pickled(encoder) if workers > 1 and number >= WORTH_PROCESSES else None
    if pickled is None:
        yield from map(encoder.encode, _grouped(rows))
        return
    with _pool(workers, pickled) as pool:
        waiting: list[tuple[Group, Future[Chunk] | None]] = []
        for group in _grouped(rows):
            with _unseen_program(needed=b"__main__" in pickled):  # a process may be started each time
                waiting.append((group, _submitted(pool, group)))
            if len(waiting) >= 3 * workers:  # no more rows in memory than the workers need
                yield _done(encoder, *waiting.pop(0))
        for group, future in waiting:
            yield _done(encoder, group, future)


def _submitted(pool: ProcessPoolExecutor, group: Group) -> Future[Chunk] | None:
    try:
        return pool.submit(_work, group)
    except BrokenProcessPool:
        return None


def _done(encoder: Encoder, group: Group, future: Future[Chunk] | None) -> Chunk:
    """What a process made of a group; without processes, as when one could not import a stranger's part, done here."""
    with suppress(BrokenProcessPool):
        if future is not None:
            return future.result()
    return encoder.encode(group)


def _pickled(encoder: Encoder) -> bytes | None:
    """None when a part of a stranger cannot travel to another process; this one does the work then."""
    try:
        return pickle.dumps(encoder)
    except Exception:  # whatever an object that cannot be pickled raises
        return None


@contextmanager
def _pool(workers: int, pickled: bytes) -> Generator[ProcessPoolExecutor]:
    with tempfile.TemporaryDirectory() as folder:
        # in a file: handed over through a pipe it would make each process wait until the one before is up
        file = Path(folder) / "encoder"
        file.write_bytes(pickled)
        # not forked: tokenizers' and torch's threads would not survive it
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _start, (file,))
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _unseen_program(needed: bool) -> Generator[None]:
    """Start processes that do not run the user's script again, unless a part is defined in it.

    Python imports the main module anew in each, which would train in a script that has no ``if __name__``.
    """
    program = vars(sys.modules["__main__"])
    seen = {name: program.pop(name) for name in ("__file__", "__spec__") if name in program and not needed}
    program.setdefault("__spec__", None)
    try:
        yield
    finally:
        program |= seen


_encoder: Encoder | None = None


def _start(file: Path) -> None:
    global _encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a process a core is enough
    _encoder = pickle.loads(file.read_bytes())  # noqa: S301  # from the process that started this one


def _work(rows: Sequence[tuple[int, Row | RowError]]) -> Chunk:
    assert _encoder is not None
    return _encoder.encode(rows)


def _grouped(rows: Iterable[tuple[int, Row | RowError]]) -> Iterator[list[tuple[int, Row | RowError]]]:
    group: list[tuple[int, Row | RowError]] = []
    for pair in rows:
        group.append(pair)
        if len(group) == CHUNK:
            yield group
            group = []
    if group:
        yield group
