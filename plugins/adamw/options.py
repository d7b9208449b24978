"""Options of AdamW: types and limits."""

from dataclasses import dataclass

from core.api import OptimOptions, UserError, within


@dataclass(frozen=True, kw_only=True)
class AdamWOptions(OptimOptions):
    """Values and comments are in ``conf/optim/adamw.yaml``."""

    name: str
    betas: list[float]
    eps: float

    def __post_init__(self) -> None:
        # not super(): a slotted or frozen dataclass is rebuilt by its decorator, and explicit is the same everywhere
        OptimOptions.__post_init__(self)
        if len(self.betas) != 2:
            raise UserError(f"optim.betas has {len(self.betas)} values", "optim.betas=[0.9,0.999]")
        for beta in self.betas:
            within("optim.betas", beta, 0, 0.999999)
        within("optim.eps", self.eps, 0)
