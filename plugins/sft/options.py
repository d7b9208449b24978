"""Options of supervised fine-tuning: it has none."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SFTOptions:
    """Values and comments are in ``conf/objective/sft.yaml``."""

    name: str
