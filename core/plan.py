"""What a run will do, decided before any weight is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.compose import Config, with_metric
from core.contracts import DataSource, Loader, Method, Metric, ModelFacts, Objective, Optim, Quantizer
from core.errors import UserError
from core.gone_on import with_saved_method
from core.made_with import check_made_with
from core.options import ModelOptions
from core.source import Start, locate

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Plan:
    """The parts of a run, made, and what is known about its model.

    Attributes:
        config: As composed, ``metric=auto`` resolved.
        start: The model's place, and the adapter to go on from.
        facts: About the model, without its weights.
        tokenizer: The model's.
        metric: None when nothing is measured.
    """

    config: Config
    start: Start
    facts: ModelFacts
    tokenizer: PreTrainedTokenizerBase
    loader: Loader
    quantizer: Quantizer
    method: Method
    objective: Objective
    source: DataSource
    optim: Optim
    metric: Metric | None

    @property
    def options(self) -> Any:
        """Options of the data source, which every one shares with ``core.api.DataOptions``."""
        return self.config.options["data"]

    @property
    def dense(self) -> bool:
        """Whether the base's layers hold ordinary weights in ``dtype``."""
        return "dense-base" in self.config.offers["quant"].part.provides

    @property
    def dtype(self) -> torch.dtype:
        """What products are computed in and frozen weights held in."""
        import torch

        return getattr(torch, self.start.model.dtype)


def the_models_own(loader: Loader, source: ModelOptions) -> PreTrainedTokenizerBase:
    """What a run needs."""
    return loader.tokenizer(source)


def make_plan(
    config: Config, tokenizer_of: Callable[[Loader, ModelOptions], PreTrainedTokenizerBase] = the_models_own
) -> Plan:
    """Make the parts and describe the model.

    Args:
        config: As composed.
        tokenizer_of: How the tokenizer is had; a look at a model that has none yet gives another.

    Raises:
        UserError: a part cannot be made, or the model is none.
    """
    start = locate(config.model)
    _same_method(start, config)
    config = with_saved_method(config, start)
    # the loader first: one that patches its libraries must be imported before they are
    axes = ("loader", "quant", "method", "objective", "data", "optim")
    made = {axis: config.registry.make(config.offers[axis], config.options[axis]) for axis in axes}
    if config.tree["metric"]["name"] == "auto":
        config = with_saved_method(with_metric(config, made["objective"].metric or made["data"].metric), start)
    metric = (
        config.registry.make(config.offers["metric"], config.options["metric"]) if "metric" in config.offers else None
    )
    return Plan(
        config=config,
        start=start,
        facts=_facts(made["loader"], start, config),
        tokenizer=tokenizer_of(made["loader"], start.model),
        loader=made["loader"],
        quantizer=made["quant"],
        method=made["method"],
        objective=made["objective"],
        source=made["data"],
        optim=made["optim"],
        metric=metric,
    )


def _facts(loader: Loader, start: Start, config: Config) -> ModelFacts:
    try:
        return loader.describe(start.model)
    except UserError as error:
        if start.loader in (None, config.offers["loader"].part.name):
            raise
        raise UserError(error.what, f"loader={start.loader}, which {config.model.path} was trained with") from error


def _same_method(start: Start, config: Config) -> None:
    if start.adapter is not None:
        check_made_with(start.adapter.parent, config.registry, ("method",))
    if start.method is not None and start.method != config.offers["method"].part.name:
        raise UserError(
            f"model.path={config.model.path} holds an adapter of method {start.method}", f"method={start.method}"
        )
