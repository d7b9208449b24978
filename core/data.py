"""Rows to examples: every row that cannot be used is counted and named, none is lost without a word."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from core.bad_rows import Bad, OfRowError, named, refusal
from core.contracts import Example, Head, Objective, Row
from core.encoding import Encoder, Limits
from core.encoding_pool import chunks
from core.errors import UserError
from core.example_file import HASH, PROMPT, ROW, ExampleFile, Writer
from core.options import DataOptions
from core.row_file import Listed
from core.rows import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Encoded:
    """Rows of one split as the objective encodes them.

    Attributes:
        examples: What is trained or measured on.
        rows: The canonical row of each, unusable ones left out.
        origins: Where each came from.
        owners: (examples,) which of the rows each example is of; a long row may be several.
        lengths: (examples,) tokens of each example.
        shares: How often each example is taken in an epoch; None: each once.
        facts: What is counted.
    """

    examples: Sequence[Example] = field(default_factory=list["Example"])
    rows: Sequence[Row] = field(default_factory=list["Row"])
    origins: Sequence[str] = field(default_factory=list["str"])
    owners: Sequence[int] = ()
    lengths: Sequence[int] = ()
    shares: Sequence[float] | None = None
    facts: Facts = field(default_factory=lambda: Facts())


@dataclass
class Facts:
    """What is counted while rows are encoded.

    Attributes:
        format: What the rows were recognised as.
        unused: Columns that nothing read.
        rows: All rows.
        skipped: Those that could not be used.
        bad: What is wrong with them, a line each for some of each kind.
        truncated: Rows that were cut to ``data.max_length``.
        longest: Tokens of the longest sequence before it was cut.
        endless: Rows with no end token to learn, though they were not cut.
        doubled: Rows that begin with the first token (BOS) twice.
        duplicates: Examples that are there already.
        shared: Examples held out that are trained on, too.
        asked: Others held out whose prompt is trained on with another answer.
        disordered: Conversations in which somebody speaks out of turn.
        unanswered: Those whose last message is not the assistant's.
        unasked: Those in which the user says nothing.
        toolless: Rows with tools that the chat template leaves out.
        garbled: Rows with control characters that no text has, but one that was read in a wrong encoding.
        spelt: Rows whose text spells a special token of the tokenizer's, which becomes that token.
        reformed: Those whose earlier turns the template rewrites, so that trl's training form of it is taken.
        alike: Cut rows in which answers that differ, such as chosen and rejected, are the same then.
        unread: Keys of messages that the chat template does not read.
        first: Name of one of these counts -> where the first of its rows stands.
        tokens: All tokens.
        supervised: Those with a loss weight.
        system: The system message that all rows share, or None.
        digest: SHA-256 of the rows that were used.
    """

    format: str = ""
    unused: Sequence[str] = ()
    rows: int = 0
    skipped: int = 0
    bad: Sequence[str] = ()
    truncated: int = 0
    longest: int = 0
    endless: int = 0
    doubled: int = 0
    duplicates: int = 0
    shared: int = 0
    asked: int = 0
    disordered: int = 0
    unanswered: int = 0
    unasked: int = 0
    toolless: int = 0
    garbled: int = 0
    spelt: int = 0
    reformed: int = 0
    alike: int = 0
    unread: Sequence[str] = ()
    first: dict[str, str] = field(default_factory=dict[str, str])
    tokens: int = 0
    supervised: int = 0
    system: str | None = None
    digest: str = ""


def encode(
    sides: Sequence[Rows],
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    options: DataOptions,
    vocabulary: int,
    head: Head,
    folder: Path | None = None,
) -> list[Encoded]:
    """Encode every row, and stop at or count those that cannot be used, of all sides together.

    Args:
        sides: Rows to train on, rows held out.
        objective: Encodes a row.
        tokenizer: The model's.
        options: ``data.*``.
        vocabulary: Tokens that the model knows.
        head: Which model is trained; a language model must have something to learn in every row.
        folder: Where examples are written; None keeps them in memory.

    Raises:
        UserError: a row cannot be used and ``data.on_bad_row`` is ``stop``, or none of a side can; the tokenizer does
            not fit the model.
    """
    must_learn = head.auto_class == Head().auto_class
    limits = Limits(options.max_length, vocabulary, must_learn, split=objective.too_long == "split")
    encoder = Encoder(objective, tokenizer, limits, options.columns)
    bad: list[Bad] = []
    found: list[Encoded] = []
    files: list[ExampleFile] = []
    for number, rows in enumerate(sides):
        side, file, unusable = _encode_side(rows, encoder, folder and folder / f"{number}.arrow")
        found.append(side)
        files.append(file)
        bad += unusable
    nothing_left = any(len(rows.rows) and not len(side.rows) for rows, side in zip(sides, found, strict=True))
    if bad and (options.on_bad_row == "stop" or nothing_left):
        raise refusal(bad, sum(len(rows.rows) for rows in sides), nothing_left)
    for side, rows, file in zip(found[1:], sides[1:], files[1:], strict=True):
        shared = np.isin(file.column(HASH), files[0].column(HASH))
        prompts = file.column(PROMPT)
        asked = np.isin(prompts, files[0].column(PROMPT)) & (prompts != 0)
        # a row may have several examples, as pieces of a text
        _count(side.facts, "shared", rows, np.unique(file.column(ROW)[shared]).tolist())
        _count(side.facts, "asked", rows, np.unique(file.column(ROW)[asked & ~shared]).tolist())
    return found


def _count(facts: Facts, kind: str, rows: Rows, which: Sequence[int]) -> None:
    """Add to a count, and note where the first row of it stands."""
    setattr(facts, kind, getattr(facts, kind) + len(which))
    if len(which):
        facts.first.setdefault(kind, rows.origins[int(which[0])])


def _encode_side(rows: Rows, encoder: Encoder, path: Path | None) -> tuple[Encoded, ExampleFile, list[Bad]]:
    facts = Facts(rows.format, rows.unused, rows=len(rows.rows))
    bad: dict[int, Bad] = {}
    systems: set[str | None] = set()
    unread: set[str] = set()
    writer = Writer(path)
    try:
        for chunk in chunks(encoder, enumerate(rows.rows), len(rows.rows)):
            bad |= {row: Bad(rows.origins[row], name, what, needed) for row, name, what, needed in chunk.bad}
            facts.tokens += chunk.tokens
            facts.supervised += chunk.supervised
            facts.longest = max(facts.longest, chunk.longest)
            for kind, which in chunk.odd.items():
                _count(facts, kind, rows, which)
            systems |= chunk.systems
            unread |= chunk.unread
            writer.write(chunk.batch)
    except OfRowError as error:  # of the model or its template; the row shows where it was seen
        raise UserError(f"{rows.origins[error.row]}: {error.what}", error.fix) from None
    file = writer.close()
    good = [i for i in range(len(rows.rows)) if i not in bad]
    facts.skipped, facts.bad = len(bad), named(list(bad.values()))
    facts.unread = sorted(unread)
    facts.system = systems.pop() if len(systems) == 1 else None
    firsts = np.unique(file.column(HASH), return_index=True)[1]
    _count(facts, "duplicates", rows, np.unique(np.delete(file.column(ROW), firsts)).tolist())
    facts.digest = _digest([rows.hashes[i] for i in good] if rows.hashes else [])
    encoded = Encoded(
        file.listed(),
        Listed(cast("Any", rows.rows).__getitem__, good),
        Listed(rows.origins.__getitem__, good),
        file.owners(),
        file.lengths(),
        None if rows.shares is None else [rows.shares[i] for i in file.column(ROW)],
        facts,
    )
    return encoded, file, list(bad.values())


def _digest(hashes: Sequence[int]) -> str:
    return hashlib.sha256(np.asarray(hashes, np.uint64).tobytes()).hexdigest()
