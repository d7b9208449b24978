"""Options of LoRA: types and limits."""

from dataclasses import dataclass

from core.api import UserError, within


@dataclass(frozen=True, kw_only=True)
class LoRAOptions:
    """Values and comments are in ``conf/method/lora.yaml``."""

    name: str
    rank: int
    alpha: float
    dropout: float
    targets: list[str]

    def __post_init__(self) -> None:
        within("method.rank", self.rank, 1)
        within("method.alpha", self.alpha, 0)
        within("method.dropout", self.dropout, 0, 0.99)
        if not self.targets:
            raise UserError("method.targets is empty", "method.targets=[all-linear]")
