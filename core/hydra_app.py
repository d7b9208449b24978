"""Hydra's own entry, for what it does best: sweeps, launchers, ``--cfg`` and ``--info``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from core.compose import CONF, configure, translate, use_folders
from core.registry import Registry


def pass_through(argv: Sequence[str]) -> int:
    """``--cfg job``, ``--info`` and the like, for a config that is right.

    Raises:
        UserError: it is not.
    """
    config = configure(_overrides(argv))
    flags = [argument for argument in argv if argument not in _overrides(argv)]
    run_hydra([*flags, *config.overrides], config.registry, lambda _: None)
    return 0


def _overrides(argv: Sequence[str]) -> list[str]:
    """What is left when flags and the words that belong to them are taken away."""
    found: list[str] = []
    for before, argument in zip(["", *argv], argv, strict=False):
        belongs = before in ("-c", "--cfg", "-p", "--package", "-i", "--info") and "=" not in argument
        if not argument.startswith("-") and not belongs:
            found.append(argument)
    return found


def run_hydra(argv: Sequence[str], registry: Registry, task: Callable[[DictConfig], Any]) -> None:
    """Run ``hydra.main`` on this command line.

    Raises:
        UserError: Hydra refuses it.
    """
    use_folders(registry)
    app = hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)
    try:
        with patch.object(sys, "argv", ["hooktune", *argv]), patch.dict(os.environ, HYDRA_FULL_ERROR="1"):
            app()
    except HydraException as error:
        raise translate(error) from error
