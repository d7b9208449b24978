"""All contact with Hydra: composing, and its own entry for sweeps, launchers, ``--cfg`` and ``--info``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

import hydra
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from core.errors import UserError
from core.overrides import GROUPS
from core.part_yaml import not_yaml
from core.registry import HERE, Registry

CONF = HERE / "conf"
"""The main folder of yaml, beside ``core`` whatever lies in the current folder."""


class PluginFolders(SearchPathPlugin):
    """Adds the yaml folders of plugins to Hydra's search path, without importing anything of theirs."""

    folders: Sequence[str] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra whenever it makes a search path."""
        for folder in type(self).folders:
            search_path.append(provider="hooktune", path=f"file://{folder}")


def use_folders(registry: Registry) -> None:
    """Let Hydra see the yaml of the plugins that were found."""
    PluginFolders.folders = [str(folder.path) for folder in registry.conf_dirs]
    if PluginFolders not in Plugins.instance().discover(SearchPathPlugin):
        Plugins.instance().register(PluginFolders)
    _in_place_of_theirs()


def _in_place_of_theirs() -> None:
    """Our yaml of another package's launcher or sweeper stands for its own, which Hydra would take for a schema."""
    for file in sorted((CONF / "hydra").glob("*/*.yaml")):
        ConfigStore.instance().repo.get("hydra", {}).get(file.parent.name, {}).pop(file.name, None)


def compose_tree(typed: Sequence[str], registry: Registry) -> tuple[DictConfig, dict[str, str]]:
    """What Hydra composes from these overrides, and the name chosen for each axis.

    Raises:
        UserError: Hydra refuses it.
    """
    use_folders(registry)
    try:
        with _raising(), _apart(), initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            tree = compose("config", list(typed), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise translate(error) from error
    except yaml.MarkedYAMLError as error:
        raise not_yaml(error) from error
    choices = {axis: name for axis, name in tree.hydra.runtime.choices.items() if axis in GROUPS}
    OmegaConf.set_struct(tree, False)
    del tree["hydra"]
    return tree, choices


def _raising() -> AbstractContextManager[Any]:
    """While inside, Hydra raises instead of printing."""
    return patch.dict(os.environ, HYDRA_FULL_ERROR="1")


@contextmanager
def _apart() -> Generator[None]:
    """While inside, Hydra's one global instance is free: a sweep's job or a notebook may be within another."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = outer


def translate(error: Exception) -> UserError:
    """A two-line error for what Hydra or OmegaConf found and we did not."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    lines = [line.strip() for line in str(getattr(cause, "msg", None) or cause).splitlines() if line.strip()]
    key = getattr(cause, "full_key", None)
    options = getattr(error, "options", None)
    if options:
        return UserError(lines[0], f"one of {', '.join(options)}")
    return UserError(f"{key}: {lines[0]}" if key else lines[0], f"{key}=VALUE" if key else "look for a typo")


def plain(tree: DictConfig) -> dict[str, Any]:
    """Plain containers, interpolations resolved.

    Raises:
        UserError: an interpolation points nowhere.
    """
    try:
        found: Any = OmegaConf.to_container(tree, resolve=True)
    except OmegaConfBaseException as error:
        raise translate(error) from error
    return found


def run_hydra(argv: Sequence[str], registry: Registry, task: Callable[[DictConfig], Any]) -> None:
    """Run ``hydra.main`` on this command line.

    Raises:
        UserError: Hydra refuses it.
    """
    use_folders(registry)
    app = hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)
    try:
        with patch.object(sys, "argv", ["hooktune", *argv]), _raising():
            app()
    except (HydraException, OmegaConfBaseException) as error:
        raise translate(error) from error
