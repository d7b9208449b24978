"""Options of rows from files: types and limits."""

from dataclasses import dataclass
from typing import ClassVar

from core.api import DataOptions, UserError


@dataclass(frozen=True, kw_only=True)
class FilesOptions(DataOptions):
    """Values and comments are in ``conf/data/jsonl.yaml``."""

    free: ClassVar = frozenset({"train", "validation"})

    name: str
    train: str | None
    validation: str | None

    def __post_init__(self) -> None:
        DataOptions.__post_init__(self)
        if not self.train:
            raise UserError("data.train is missing", "data.train=FILE.jsonl (or .json, .csv, .tsv, .parquet)")
