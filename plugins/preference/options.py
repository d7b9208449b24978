"""Options of the preference family: types and limits; values and comments are in ``conf``."""

from __future__ import annotations

from dataclasses import dataclass

from core.api import MetricOptions, UserError, one_of, within


@dataclass(frozen=True, kw_only=True)
class DPOOptions:
    """``conf/objective/dpo.yaml``."""

    name: str
    beta: float
    loss: str
    label_smoothing: float
    length_normalised: bool

    def __post_init__(self) -> None:
        within("objective.beta", self.beta, 1e-6)
        one_of("objective.loss", self.loss, ("sigmoid", "ipo", "hinge", "robust"))
        _smoothing(self.label_smoothing)
        if self.label_smoothing and self.loss not in ("sigmoid", "robust"):
            raise UserError(
                f"objective.loss={self.loss} has no label smoothing", "objective.loss=sigmoid or robust, or leave it 0"
            )


@dataclass(frozen=True, kw_only=True)
class SimPOOptions:
    """``conf/objective/simpo.yaml``."""

    name: str
    beta: float
    margin: float
    label_smoothing: float

    def __post_init__(self) -> None:
        within("objective.beta", self.beta, 1e-6)
        within("objective.margin", self.margin, 0)
        _smoothing(self.label_smoothing)


@dataclass(frozen=True, kw_only=True)
class CPOOptions:
    """``conf/objective/cpo.yaml``."""

    name: str
    beta: float
    loss: str
    label_smoothing: float
    nll: str
    nll_weight: float

    def __post_init__(self) -> None:
        within("objective.beta", self.beta, 1e-6)
        one_of("objective.loss", self.loss, ("sigmoid", "ipo", "hinge"))
        _smoothing(self.label_smoothing)
        if self.label_smoothing and self.loss != "sigmoid":
            raise UserError(
                f"objective.loss={self.loss} has no label smoothing", "objective.loss=sigmoid, or leave it 0"
            )
        one_of("objective.nll", self.nll, ("pair", "batch"))
        within("objective.nll_weight", self.nll_weight, 0)


@dataclass(frozen=True, kw_only=True)
class ORPOOptions:
    """``conf/objective/orpo.yaml``."""

    name: str
    beta: float
    nll: str

    def __post_init__(self) -> None:
        within("objective.beta", self.beta, 1e-6)
        one_of("objective.nll", self.nll, ("pair", "batch"))


@dataclass(frozen=True, kw_only=True)
class KTOOptions:
    """``conf/objective/kto.yaml``."""

    name: str
    beta: float
    desirable_weight: float
    undesirable_weight: float
    block: int

    def __post_init__(self) -> None:
        within("objective.beta", self.beta, 1e-6)
        within("objective.desirable_weight", self.desirable_weight, 0)
        within("objective.undesirable_weight", self.undesirable_weight, 0)
        within("objective.block", self.block, 2)


@dataclass(frozen=True, kw_only=True)
class PreferenceOptions(MetricOptions):
    """``conf/metric/preference.yaml``."""

    name: str


def _smoothing(value: float) -> None:
    within("objective.label_smoothing", value, 0, 0.5)
    if value == 0.5:
        raise UserError("objective.label_smoothing=0.5 leaves nothing to prefer", "objective.label_smoothing=0.1")
