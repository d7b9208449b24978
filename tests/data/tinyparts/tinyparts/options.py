"""One option class for all."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Named:
    name: str
