"""Options of next-token prediction: types and limits. Values and comments are in ``conf/objective``."""

from __future__ import annotations

from dataclasses import dataclass

from core.api import one_of, within


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """``conf/objective/pretrain.yaml``."""

    name: str
    label_smoothing: float
    z_loss: float
    neftune_alpha: float

    def __post_init__(self) -> None:
        within("objective.label_smoothing", self.label_smoothing, 0, 0.9)
        within("objective.z_loss", self.z_loss, 0)
        within("objective.neftune_alpha", self.neftune_alpha, 0)


@dataclass(frozen=True, kw_only=True)
class SFTOptions(PretrainOptions):
    """``conf/objective/sft.yaml``."""

    turns: str
    prompt_weight: float

    def __post_init__(self) -> None:
        PretrainOptions.__post_init__(self)
        one_of("objective.turns", self.turns, ("all", "last"))
        within("objective.prompt_weight", self.prompt_weight, 0)
