"""Hydra: what was typed to one checked ``Config``. No torch, no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from core import capabilities, schema
from core.discovery import discover
from core.errors import UserError
from core.hydra_app import CONF, compose_tree, plain
from core.options import ModelOptions
from core.overrides import VALUES, check_group, check_key, disabled, group_choice, parse
from core.registry import AXES, Offer, Registry
from core.trainer_options import TrainerOptions

NO_PART = {"metric": ("auto", "none")}
"""Choices that are no part: nothing to measure, or what the data source suggests."""

NAMED = ("method", "quant", "objective", "data", "optim", "loader", "model")
"""Axes that name a run's folder, in this order."""


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
    capabilities.check(config.offers, capabilities.words(), config.registry)
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
    """Check what Hydra tree and make the options objects.

    Raises:
        UserError: a name, key or value is wrong.
    """
    schema.check_root(tree)
    offers = {a: registry.find(a, n) for a, n in choices.items() if a in AXES and n not in NO_PART.get(a, ())}
    _refuse_shadowed(choices, registry)
    for axis in AXES:
        schema.check_name(tree, axis, choices[axis])
    if tree.optim.get("lr") is None and "lr" in tree.optim:
        tree.optim.lr = 1e-3 if "adapter" in offers["method"].part.provides else 1e-5
    where = Experiment(choices.get("experiment"), registry)
    options = {
        axis: schema.to_options(axis, tree[axis], registry.options_class(offer), offer.part.name, where.sets)
        for axis, offer in offers.items()
    }
    return Config(
        tree=plain(tree),
        overrides=tuple(typed),
        choices=dict(choices),
        offers=offers,
        options=options,
        model=schema.to_options("model", tree.model, ModelOptions, "model", where.sets),
        trainer=schema.to_options("trainer", tree.trainer, TrainerOptions, "trainer", where.sets),
        seed=schema.whole("seed", tree),
        run_dir=tree.run.dir,
        registry=registry,
    )


def with_metric(config: Config, name: str) -> Config:
    """The same config with ``metric=auto`` resolved.

    Raises:
        UserError: the data source suggests a metric that nobody offers.
    """
    typed = [line for line in config.overrides if line.lstrip("+") != "metric=auto"]
    return composed([*typed, f"metric={name}"], config.registry)


def normalise(overrides: Sequence[str], registry: Registry, multirun: bool) -> list[str]:
    """The overrides as Hydra takes them: a leading plus stripped from every axis and key that exists.

    Raises:
        UserError: an axis, name or key does not exist.
    """
    parsed = parse(overrides)
    names = all_names(registry)
    groups = [override for override in parsed if group_choice(override)]
    chosen = {override.key_or_group: check_group(override, names, multirun) for override in groups}
    _once(parsed)
    if multirun:
        # every combination has its own keys: each job is checked when it is composed
        known, free = _keys_of_any(chosen, registry)
    else:
        first, _ = compose_tree([_without_plus(o.input_line) for o in groups], registry)
        known, free = _keys(first)
    lines: list[str] = []
    for override in parsed:
        bare = _without_plus(override.input_line)
        lines.append(bare if group_choice(override) else check_key(override, known, free, multirun))
    return lines


def _once(parsed: Sequence[Any]) -> None:
    seen: set[str] = set()
    for override in parsed:
        if group_choice(override) and override.key_or_group in seen:
            raise UserError(f"{override.key_or_group} is chosen twice", f"keep one {override.key_or_group}=NAME")
        seen.add(override.key_or_group)


def _without_plus(line: str | None) -> str:
    return (line or "").lstrip("+")


def _keys_of_any(chosen: Mapping[str, Sequence[str]], registry: Registry) -> tuple[set[str], set[str]]:
    known: set[str] = set()
    free: set[str] = set()
    widest = max((len(names) for names in chosen.values()), default=1)
    for i in range(widest):
        lines = [f"{axis}={names[min(i, len(names) - 1)]}" for axis, names in chosen.items() if names]
        keys, mappings = _keys(compose_tree(lines, registry)[0])
        known |= keys
        free |= mappings
    return known, free


def _keys(tree: DictConfig) -> tuple[set[str], set[str]]:
    """Every key, and those that hold a mapping an option may fill."""
    known: set[str] = set()
    free: set[str] = set()

    def walk(node: Mapping[str, Any], prefix: str) -> None:
        for key, value in node.items():
            known.add(f"{prefix}{key}")
            if isinstance(value, Mapping):
                if prefix:
                    free.add(f"{prefix}{key}")
                walk(value, f"{prefix}{key}.")

    walk(plain(tree), "")
    return known, free


# ------------------------------------------------------------------------------------------------------------- names
def all_names(registry: Registry) -> dict[str, list[str]]:
    """Axis -> every name it can take."""
    names = {axis: [*registry.names(axis), *NO_PART.get(axis, ())] for axis in AXES}
    for axis in AXES:  # a broken plugin's yaml: naming it must say why it is broken
        names[axis] += [n for n in yaml_names(axis, registry) if n not in names[axis] and n != "common"]
    return names | {axis: yaml_names(axis, registry) for axis in VALUES}


def yaml_names(axis: str, registry: Registry) -> list[str]:
    """Names of the yaml files of an axis, in any folder."""
    folders = [CONF, *(folder.path for folder in registry.conf_dirs)]
    return sorted({file.stem for folder in folders for file in (folder / axis).glob("*.yaml")})


def default_choices() -> dict[str, str]:
    """What ``conf/config.yaml`` chooses."""
    whole: Any = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"))
    entries: list[Any] = whole["defaults"]
    return {axis: name for entry in entries if isinstance(entry, dict) for axis, name in entry.items()}


def _refuse_shadowed(choices: Mapping[str, str], registry: Registry) -> None:
    for axis, name, owners in registry.shadowed():
        if choices.get(axis) == name:
            raise UserError(
                f"{axis}/{name}.yaml is shipped twice, by {' and by '.join(owners)}", "uninstall one of them"
            )


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
            if file.exists() and OmegaConf.select(OmegaConf.load(file), key) is not None:
                return str(file)
        return None
