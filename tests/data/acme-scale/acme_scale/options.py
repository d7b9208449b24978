"""Options of scale: types and limits."""

from dataclasses import dataclass

from core.api import UserError


@dataclass(frozen=True, kw_only=True)
class ScaleOptions:
    """Values and comments are in ``conf/method/scale.yaml``."""

    name: str
    targets: list[str]

    def __post_init__(self) -> None:
        if not self.targets:
            raise UserError("method.targets is empty", "method.targets=[q_proj,v_proj]")
