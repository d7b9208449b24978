"""Options of bottleneck adapters: types and limits."""

from dataclasses import dataclass

from core.api import one_of, within


@dataclass(frozen=True, kw_only=True)
class AdaptersOptions:
    """Values and comments are in ``conf/method/adapters.yaml``."""

    name: str
    bottleneck: int
    placement: str
    activation: str
    norm: str
    dropout: float
    combine: str

    def __post_init__(self) -> None:
        within("method.bottleneck", self.bottleneck, 1)
        one_of("method.placement", self.placement, ("houlsby", "pfeiffer", "attention"))
        one_of("method.activation", self.activation, ("relu", "gelu", "silu", "tanh"))
        one_of("method.norm", self.norm, ("none", "before", "after"))
        within("method.dropout", self.dropout, 0, 0.99)
        one_of("method.combine", self.combine, ("stack", "average"))
