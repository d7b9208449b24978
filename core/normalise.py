"""What was typed, checked name by name and key by key, as Hydra takes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from core.choices import all_names, default_choices
from core.errors import UserError
from core.hydra_app import compose_tree, plain
from core.keys import Keys
from core.overrides import check_group, group_choice, parse
from core.registry import Registry


def normalise(overrides: Sequence[str], registry: Registry, multirun: bool) -> list[str]:
    """The overrides as Hydra takes them: a leading plus stripped from every axis and key that exists.

    Raises:
        UserError: an axis, name or key does not exist.
    """
    parsed = parse(overrides)
    names = all_names(registry)
    _once(parsed)
    groups = [override for override in parsed if group_choice(override)]
    chosen = {override.key_or_group: check_group(override, names, multirun) for override in groups}
    for axis, chosen_names in chosen.items():
        for name in chosen_names:
            registry.check_yaml(axis, name)
    # under -m each combination has its own keys: here the union of them, and each job again when it is composed
    known, free = _keys(_compose_each(chosen, registry))
    last = {axis: found[-1] for axis, found in chosen.items() if found}
    keys = Keys(known, free, {**default_choices(), **last}, registry, multirun)
    lines: list[str] = []
    for override in parsed:
        axis = override.key_or_group
        if not group_choice(override):
            lines.append(keys.check(override))
        elif chosen[axis]:  # experiment=null is what it is without being typed, and Hydra refuses it
            lines.append(f"{axis}={','.join(chosen[axis])}")
    return lines


def _once(parsed: Sequence[Override]) -> None:
    seen: set[str] = set()
    for override in parsed:
        if group_choice(override) and override.key_or_group in seen:
            raise UserError(f"{override.key_or_group} is chosen twice", f"keep one {override.key_or_group}=NAME")
        seen.add(override.key_or_group)


def _compose_each(chosen: Mapping[str, Sequence[str]], registry: Registry) -> Iterator[DictConfig]:
    """Trees in which every name that was chosen is chosen once; a single one without -m."""
    for i in range(max((len(names) for names in chosen.values()), default=1) or 1):
        lines = [f"{axis}={names[min(i, len(names) - 1)]}" for axis, names in chosen.items() if names]
        yield compose_tree(lines, registry)[0]


def _keys(trees: Iterable[DictConfig]) -> tuple[list[str], set[str]]:
    """Every key, in the order of the yaml files, and those that hold a mapping an option may fill."""
    known: dict[str, None] = {}
    free: set[str] = set()

    def walk(node: Mapping[str, Any], prefix: str) -> None:
        for key, value in node.items():
            known[f"{prefix}{key}"] = None
            if isinstance(value, Mapping):
                if prefix:
                    free.add(f"{prefix}{key}")
                walk(value, f"{prefix}{key}.")

    for tree in trees:
        walk(plain(tree), "")
    return list(known), free
