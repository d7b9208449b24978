"""Options of GaLore: types and limits."""

from dataclasses import dataclass

from core.api import within


@dataclass(frozen=True, kw_only=True)
class GaLoreOptions:
    """Values and comments are in ``conf/method/galore.yaml``.

    Attributes:
        name: The part.
        rank: Directions of a gradient that the optimizer sees; r in the paper.
        update_every: Steps between two choices of these directions; T in the paper.
        scale: What a projected matrix' update is multiplied with; alpha in the paper.
    """

    name: str
    rank: int
    update_every: int
    scale: float

    def __post_init__(self) -> None:
        within("method.rank", self.rank, 1)
        within("method.update_every", self.update_every, 1)
        within("method.scale", self.scale, 0)
