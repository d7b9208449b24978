"""Options of the preference family: types and limits; values and comments are in ``conf``."""

from __future__ import annotations

from dataclasses import dataclass

from core.api import MetricOptions, UserError, one_of, within


@dataclass(frozen=True, kw_only=True)
class BetaOptions:
    """What all of them have."""

    name: str
    beta: float

    def __post_init__(self) -> None:
        within("objective.beta", self.beta, 1e-6)


@dataclass(frozen=True, kw_only=True)
class DPOOptions(BetaOptions):
    """``conf/objective/dpo.yaml``."""

    loss: str
    label_smoothing: float
    length_normalised: bool

    def __post_init__(self) -> None:
        BetaOptions.__post_init__(self)
        _loss(self.loss, self.label_smoothing, ("sigmoid", "robust"))


@dataclass(frozen=True, kw_only=True)
class SimPOOptions(BetaOptions):
    """``conf/objective/simpo.yaml``."""

    margin: float
    label_smoothing: float

    def __post_init__(self) -> None:
        BetaOptions.__post_init__(self)
        within("objective.margin", self.margin, 0)
        _smoothing(self.label_smoothing)


@dataclass(frozen=True, kw_only=True)
class CPOOptions(BetaOptions):
    """``conf/objective/cpo.yaml``."""

    loss: str
    label_smoothing: float
    nll: str
    nll_weight: float

    def __post_init__(self) -> None:
        BetaOptions.__post_init__(self)
        _loss(self.loss, self.label_smoothing, ("sigmoid",))
        one_of("objective.nll", self.nll, ("pair", "batch"))
        within("objective.nll_weight", self.nll_weight, 0)


@dataclass(frozen=True, kw_only=True)
class ORPOOptions(BetaOptions):
    """``conf/objective/orpo.yaml``."""

    nll: str

    def __post_init__(self) -> None:
        BetaOptions.__post_init__(self)
        one_of("objective.nll", self.nll, ("pair", "batch"))


@dataclass(frozen=True, kw_only=True)
class KTOOptions(BetaOptions):
    """``conf/objective/kto.yaml``."""

    desirable_weight: float
    undesirable_weight: float
    block: int

    def __post_init__(self) -> None:
        BetaOptions.__post_init__(self)
        within("objective.desirable_weight", self.desirable_weight, 0)
        within("objective.undesirable_weight", self.undesirable_weight, 0)
        within("objective.block", self.block, 2)
        if not self.desirable_weight and not self.undesirable_weight:
            raise UserError(
                "objective.desirable_weight and undesirable_weight are both 0: nothing is learned",
                "objective.desirable_weight=1 objective.undesirable_weight=1",
            )


@dataclass(frozen=True, kw_only=True)
class PreferenceOptions(MetricOptions):
    """``conf/metric/preference.yaml``."""

    name: str


def _loss(loss: str, smoothing: float, smoothed: tuple[str, ...]) -> None:
    """A loss that there is, and label smoothing where it has one."""
    one_of("objective.loss", loss, (*smoothed, "ipo", "hinge"))
    _smoothing(smoothing)
    if smoothing and loss not in smoothed:
        raise UserError(
            f"objective.loss={loss} has no label smoothing", f"objective.loss={' or '.join(smoothed)}, or leave it 0"
        )


def _smoothing(value: float) -> None:
    within("objective.label_smoothing", value, 0, 0.5)
    if value == 0.5:
        raise UserError("objective.label_smoothing=0.5 leaves nothing to prefer", "objective.label_smoothing=0.1")
