"""Hydra: what was typed to one checked ``Config``. No torch, no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from core import capabilities, schema
from core.choices import NO_PART, default_choices
from core.discovery import discover
from core.hydra_app import CONF, compose_tree, plain
from core.loading import checking_options
from core.normalise import normalise
from core.options import ModelOptions
from core.overrides import disabled, parse
from core.registry import AXES, Offer, Registry
from core.trainer_options import TrainerOptions

NAMED = ("method", "quant", "objective", "data", "optim", "loader", "model")
"""Axes that name a run's folder, in this order."""


RATES: Mapping[tuple[bool, ...], float] = {
    (True, False): 1e-3,
    (False, False): 1e-5,
    (True, True): 1e-4,
    (False, True): 1e-6,
}
"""(whether an adapter is trained, whether from preferences) -> learning rate when ``optim.lr`` is null."""


@dataclass(frozen=True)
class Config:
    """A run's config, complete and checked.

    Attributes:
        tree: All values as plain containers: ``config.yaml`` of the run folder.
        overrides: What was typed, as Hydra takes it.
        choices: Axis -> name.
        offers: Axis -> chosen part; no metric while it is ``auto`` or ``none``.
        options: Axis -> its options.
        model: Which weights.
        trainer: For Lightning.
        seed: Of everything random.
        run_dir: Folder that was asked for, or None.
        registry: Who offers what.
    """

    tree: Mapping[str, Any]
    overrides: tuple[str, ...]
    choices: Mapping[str, str]
    offers: Mapping[str, Offer]
    options: Mapping[str, Any]
    model: ModelOptions
    trainer: TrainerOptions
    seed: int
    run_dir: str | None
    registry: Registry

    @property
    def asked(self) -> dict[str, str]:
        """Axis -> name, of what is chosen by more than being the default."""
        return asked_for(self.choices, self.overrides)

    @property
    def what(self) -> str:
        """The chosen parts that differ from the defaults, such as ``lora-int4``."""
        usual = default_choices()
        different = [self.choices[axis] for axis in NAMED if self.choices[axis] != usual[axis]]
        return "-".join(different) or self.choices["method"]


def configure(overrides: Sequence[str] = ()) -> Config:
    """Compose and check a run's config.

    Args:
        overrides: As typed after ``python -m core``.

    Raises:
        UserError: a name, key or value is wrong, or the parts do not fit together.

    Example:
        >>> configure(["+method=lora", "+quant=int4"]).what
        'lora-int4'
    """
    config = composed(overrides)
    capabilities.check(config.offers, capabilities.words(config.trainer.accelerator), config.registry)
    return config


def composed(overrides: Sequence[str], registry: Registry | None = None) -> Config:
    """The same, whether the parts fit together or not; ``registry`` is found anew when None.

    Raises:
        UserError: a name, key or value is wrong.
    """
    parsed = parse(overrides)
    registry = registry or discover(disabled(parsed))
    typed = normalise(overrides, registry, multirun=False)
    tree, choices = compose_tree(typed, registry)
    return from_composed(tree, choices, typed, registry)


def from_composed(tree: DictConfig, choices: Mapping[str, str], typed: Sequence[str], registry: Registry) -> Config:
    """Check what Hydra composed and make the options objects.

    Raises:
        UserError: a name, key or value is wrong.
    """
    where = Experiment(choices.get("experiment"), registry)
    schema.check_root(tree, where.sets)
    asked = asked_for(choices, typed)
    parts = {axis: name for axis, name in choices.items() if axis in AXES and name not in NO_PART.get(axis, ())}
    offers = {axis: registry.find(axis, name, axis in asked) for axis, name in parts.items()}
    for axis, name in asked.items():
        registry.check_yaml(axis, name)
    for axis in AXES:
        schema.check_name(tree, axis, choices[axis])
    if tree.optim.get("lr") is None and "lr" in tree.optim:
        adapter, preference = ("adapter", "method"), ("preference", "objective")
        tree.optim.lr = RATES[tuple(word in offers[axis].part.provides for word, axis in (adapter, preference))]
    run = schema.to_options("run", tree.run, schema.RunOptions, "a run", where.sets)
    schema.to_options("plugins", tree.plugins, schema.PluginOptions, "plugins", where.sets)
    options: dict[str, Any] = {}
    for axis, offer in offers.items():
        cls = registry.options_class(offer)
        with checking_options(offer):
            options[axis] = schema.to_options(axis, tree[axis], cls, offer.part.name, where.sets)
    return Config(
        tree=plain(tree),
        overrides=tuple(typed),
        choices=dict(choices),
        offers=offers,
        options=options,
        model=schema.to_options("model", tree.model, ModelOptions, "model", where.sets),
        trainer=schema.to_options("trainer", tree.trainer, TrainerOptions, "trainer", where.sets),
        seed=schema.seed_of(tree),
        run_dir=run.dir,
        registry=registry,
    )


def with_metric(config: Config, name: str) -> Config:
    """The same config with ``metric=auto`` resolved.

    Raises:
        UserError: the data source suggests a metric that nobody offers, or that the other parts do not fit.
    """
    typed = [line for line in config.overrides if line.lstrip("+").partition("=")[0] != "metric"]
    resolved = composed([*typed, f"metric={name}"], config.registry)
    capabilities.check(resolved.offers, capabilities.words(config.trainer.accelerator), resolved.registry)
    return replace(resolved, overrides=config.overrides)


def asked_for(choices: Mapping[str, str], typed: Sequence[str]) -> dict[str, str]:
    """Axis -> name, of what is chosen by more than being the default."""
    named, usual = {line.lstrip("+").partition("=")[0] for line in typed}, default_choices()
    return {axis: name for axis, name in choices.items() if axis in named or name != usual.get(axis)}


@dataclass(frozen=True)
class Experiment:
    """The experiment file that was chosen, to name it when it sets what a part does not have."""

    name: str | None
    registry: Registry

    def sets(self, key: str) -> str | None:
        """The file, when it sets ``key``."""
        if self.name is None:
            return None
        for folder in [CONF, *(d.path for d in self.registry.conf_dirs)]:
            file = folder / "experiment" / f"{self.name}.yaml"
            if file.exists():
                holder, _, last = key.rpartition(".")
                whole = OmegaConf.load(file)
                node = OmegaConf.select(whole, holder) if holder else whole
                return str(file) if isinstance(node, DictConfig) and last in node else None
        return None
