"""What an axis can be set to: names of parts and of yaml files."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from core.hydra_app import CONF
from core.overrides import VALUES
from core.registry import AXES, Registry

NO_PART = {"metric": ("auto", "none")}
"""Choices that are no part: nothing to measure, or what the data source suggests."""


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
