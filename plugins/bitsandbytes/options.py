"""Options of the bitsandbytes quantizers: types and limits."""

from dataclasses import dataclass

from core.api import one_of, within


@dataclass(frozen=True, kw_only=True)
class Int8Options:
    """Values and comments are in ``conf/quant/int8.yaml``."""

    name: str
    threshold: float

    def __post_init__(self) -> None:
        within("quant.threshold", self.threshold, 0)


@dataclass(frozen=True, kw_only=True)
class Int4Options:
    """Values and comments are in ``conf/quant/int4.yaml``."""

    name: str
    type: str
    double: bool

    def __post_init__(self) -> None:
        one_of("quant.type", self.type, ("nf4", "fp4"))
