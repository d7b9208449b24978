"""Options of the transformers loader: types and limits."""

from dataclasses import dataclass

from core.api import one_of


@dataclass(frozen=True, kw_only=True)
class TransformersOptions:
    """Values and comments are in ``conf/loader/transformers.yaml``."""

    name: str
    attention: str

    def __post_init__(self) -> None:
        one_of("loader.attention", self.attention, ("auto", "sdpa", "eager", "flash_attention_2"))
