"""Options of the reviews: types and limits."""

from dataclasses import dataclass
from typing import ClassVar

from core.api import DataOptions, within


@dataclass(frozen=True, kw_only=True)
class ReviewsOptions(DataOptions):
    """Values and comments are in ``conf/data/reviews.yaml``."""

    free: ClassVar = frozenset({"question", "split_seed"})

    name: str
    train_rows: int
    validation_rows: int
    words: int
    question: str
    split_seed: int

    def __post_init__(self) -> None:
        DataOptions.__post_init__(self)
        within("data.train_rows", self.train_rows, 1)
        within("data.validation_rows", self.validation_rows, 0)
        within("data.words", self.words, 1)
