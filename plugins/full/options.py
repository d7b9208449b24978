"""Options of full fine-tuning: it has none."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FullOptions:
    """Values and comments are in ``conf/method/full.yaml``."""

    name: str
