"""Options of Unsloth's loader: types and limits."""

from dataclasses import dataclass

from core.api import within


@dataclass(frozen=True, kw_only=True)
class UnslothOptions:
    """Values and comments are in ``conf/loader/unsloth.yaml``."""

    name: str
    max_seq_length: int

    def __post_init__(self) -> None:
        within("loader.max_seq_length", self.max_seq_length, 1)
