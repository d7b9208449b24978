"""Option classes."""

from dataclasses import dataclass

from core.api import DataOptions, MetricOptions, OptimOptions


@dataclass(frozen=True, kw_only=True)
class Named:
    name: str


@dataclass(frozen=True, kw_only=True)
class PlainOptions(OptimOptions):
    name: str
    momentum: float


@dataclass(frozen=True, kw_only=True)
class SumsOptions(DataOptions):
    name: str


@dataclass(frozen=True, kw_only=True)
class LongestOptions(MetricOptions):
    name: str
