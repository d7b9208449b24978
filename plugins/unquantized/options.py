"""Options of no quantization: it has none."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class UnquantizedOptions:
    """Values and comments are in ``conf/quant/none.yaml``."""

    name: str
