"""Rows to examples, and what each of them must keep to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from core.bad_rows import OfRowError
from core.chat import mentions, reads_key, reformed
from core.contracts import Example, Objective, Row, Tokens
from core.errors import RowError, UserError
from core.example_file import record_batch
from core.fitted import fitted
from core.formats import of_file
from core.messages import conversation, oddities
from core.options import COLUMNS
from core.special import special_ids, spellings, spelt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Limits:
    """What every example must keep to.

    Attributes:
        max_length: Tokens of a sequence.
        vocabulary: Tokens that the model knows.
        must_learn: Whether each sequence must hold a supervised token.
        split: Whether a sequence that is too long goes on in a further example.
    """

    max_length: int
    vocabulary: int
    must_learn: bool
    split: bool


READ = {"role", "content", "weight"}
"""Keys of a message that are read whatever the chat template says."""


CONTROLS = re.compile("[\x80-\x9f]")
"""The second set of control characters, which text in Windows' encodings becomes when it is read as ISO 8859-1."""


class TooLongError(RowError):
    """The prompt alone fills ``data.max_length``.

    Attributes:
        needed: Tokens of the whole sequence.
    """

    def __init__(self, field: str, what: str, needed: int) -> None:
        super().__init__(field, what)
        self.needed = needed


@dataclass
class Chunk:
    """What came of some rows.

    Attributes:
        batch: Their examples, or None when there are none.
        bad: (row, field, what, tokens needed) of each row that cannot be used.
        tokens: All tokens of the examples.
        supervised: Those with a loss weight.
        longest: Tokens of the longest sequence before it is cut.
        odd: Name of a count in ``core.data.Facts`` -> the rows that are counted.
        systems: The system messages that the rows begin with, None for none.
        unread: Keys of messages that nothing reads.
    """

    batch: pa.RecordBatch | None = None
    bad: list[tuple[int, str, str, int]] = field(default_factory=list[tuple[int, str, str, int]])
    tokens: int = 0
    supervised: int = 0
    longest: int = 0
    odd: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    systems: set[str | None] = field(default_factory=set["str | None"])
    unread: set[str] = field(default_factory=set[str])


class Encoder:
    """Encodes rows with one objective and tokenizer.

    Args:
        objective: Encodes a row.
        tokenizer: The model's.
        limits: What every example must keep to.
        columns: Canonical column -> column of the file, for errors.
    """

    def __init__(
        self,
        objective: Objective,
        tokenizer: PreTrainedTokenizerBase,
        limits: Limits,
        columns: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.objective = objective
        self.tokenizer = tokenizer
        self.limits = limits
        self.special = special_ids(tokenizer)
        self.spellings = spellings(tokenizer, self.special)
        self.columns = dict(columns)

    def encode(self, rows: Sequence[tuple[int, Row | RowError]]) -> Chunk:
        """Examples of rows, each with its index.

        Raises:
            UserError: of the model or its template, about one row; its index stands in ``error.row``.
        """
        found = Chunk()
        examples: list[Example] = []
        owners: list[int] = []
        for index, row in rows:
            try:
                pieces = self._one(index, row, found)
            except RowError as error:
                where = error.field if isinstance(row, RowError) else of_file(error.field, self.columns)
                found.bad.append((index, where, error.what, getattr(error, "needed", 0)))
                continue
            except UserError as error:
                raise OfRowError(error.what, error.fix, index) from None
            examples += pieces
            owners += [index] * len(pieces)
            found.systems.add(_system(row))
        if examples:
            found.batch = record_batch(examples, owners, self.objective.borrowed)
        return found

    def _one(self, index: int, row: Row | RowError, found: Chunk) -> Sequence[Example]:
        if isinstance(row, RowError):
            raise row
        _check_columns(row, self.objective)
        reformed_before = reformed(self.tokenizer)
        example = self.objective.encode(row, self.tokenizer)
        _check_ids(example, self.limits.vocabulary)
        _check_learned(example, row, self.limits)
        own = {name: value for name, value in example.items() if name not in self.objective.borrowed}
        found.longest = max(found.longest, _longest(own))
        pieces = fitted(example, self.limits.max_length, self.limits.split)
        pieces = [piece for piece in pieces if len(pieces) == 1 or _learned(piece)]
        odd = [*self._oddities(row, own), *(["reformed"] if reformed(self.tokenizer) > reformed_before else [])]
        for name in odd:
            found.odd.setdefault(name, []).append(index)
        found.unread |= self._unread(row)
        for value in (piece[name] for piece in pieces for name in own):
            if not isinstance(value, Tokens):
                continue
            found.tokens += len(value.ids)
            found.supervised += len(value.loss_weights) - value.loss_weights.count(0)
        return pieces

    def _oddities(self, row: Row, example: Example) -> Iterator[str]:
        """Of the sequences that are the row's own."""
        if not self.limits.split and _longest(example) > self.limits.max_length:
            yield "truncated"
            if self._alike(example):
                yield "alike"
        elif self.limits.must_learn and self._goes_on(example):
            yield "endless"
        first: Any = getattr(self.tokenizer, "bos_token_id", None)
        if first is not None and any(
            list(value.ids[:2]) == [first, first] for value in example.values() if isinstance(value, Tokens)
        ):
            yield "doubled"
        if row.get("tools") and not mentions(self.tokenizer, "tools"):
            yield "toolless"
        if self.spellings and any(spelt(self.spellings, row[column]) for column in COLUMNS if column in row):
            yield "spelt"
        if any(spelt(CONTROLS, row[column]) for column in COLUMNS if column in row):
            yield "garbled"
        yield from oddities(conversation(row))

    def _alike(self, example: Example) -> bool:
        """Whether sequences that differ, such as chosen and rejected, are the same once they are cut."""
        whole = {tuple(value.ids) for value in example.values() if isinstance(value, Tokens)}
        return len({ids[: self.limits.max_length] for ids in whole}) < len(whole)

    def _unread(self, row: Row) -> set[str]:
        """Keys of the row's messages that neither the chat template nor anything of ours reads."""
        keys = {str(key) for message in conversation(row) for key, value in message.items() if value is not None}
        return {key for key in keys - READ if not reads_key(self.tokenizer, key)}

    def _goes_on(self, example: Example) -> bool:
        """Whether some sequence's last learned token is none that ends it, white space left out."""
        return any(self._endless(value) for value in example.values() if isinstance(value, Tokens))

    def _endless(self, value: Tokens) -> bool:
        learned = (token for token, weight in zip(value.ids[::-1], value.loss_weights[::-1], strict=True) if weight)
        for token in learned:
            if token in self.special:
                return False
            decode: Any = getattr(self.tokenizer, "decode", None)
            if decode is None or not decode([token]).isspace():
                return True
        return True


def _check_columns(row: Row, objective: Objective) -> None:
    for needed in sorted(objective.columns):
        if not any(row.get(column) is not None for column in needed.split("|")):
            raise RowError(needed.replace("|", " or "), "is missing")


def _check_ids(example: Example, vocabulary: int) -> None:
    largest = max((max(value.ids, default=0) for value in example.values() if isinstance(value, Tokens)), default=0)
    if largest >= vocabulary:
        raise UserError(
            f"the tokenizer gives token {largest}, the model knows {vocabulary:,}: they do not belong together",
            "model.path=A_MODEL with its own tokenizer",
        )


def _check_learned(example: Example, row: Row, limits: Limits) -> None:
    """Something supervised must remain in each sequence that is cut, where tokens are learned."""
    if not limits.must_learn:
        return
    for name, value in example.items():
        if not isinstance(value, Tokens) or any(value.loss_weights[1 : limits.max_length]):
            continue
        if any(value.loss_weights[1:]):
            first = next(i for i, weight in enumerate(value.loss_weights) if weight)
            what = f"the prompt alone takes {first} tokens, data.max_length is {limits.max_length}"
            column = next((column for column in ("messages", "prompt") if row.get(column)), name)
            raise TooLongError(column, what, len(value.ids))
        raise RowError("messages" if row.get("messages") else name, "has no supervised token")


def _learned(example: Example) -> bool:
    return all(any(value.loss_weights) for value in example.values() if isinstance(value, Tokens))


def _longest(example: Example) -> int:
    return max((len(value.ids) for value in example.values() if isinstance(value, Tokens)), default=0)


def _system(row: Any) -> str | None:
    said = conversation(row)
    content = said[0].get("content") if said and said[0].get("role") == "system" else None
    return content if isinstance(content, str) else None
