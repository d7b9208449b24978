"""No quantization."""

from __future__ import annotations

from typing import ClassVar

from core.api import Quantizer
from plugins.unquantized.options import UnquantizedOptions


class Unquantized(Quantizer):
    """The base as it is; ``bits`` is that of the usual 16-bit weights."""

    bits: ClassVar[float] = 16.0

    def __init__(self, options: UnquantizedOptions) -> None:
        self.options = options
