"""Launchers and sweepers of other packages: the yaml is ours, the package an extra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.errors import UserError
from core.modules import find

EXTRAS: Mapping[str, tuple[str, str, str]] = {
    "hydra/launcher=joblib": ("hydra_joblib_launcher", "hydra-joblib-launcher", "joblib"),
    "hydra/launcher=submitit_local": ("hydra_submitit_launcher", "hydra-submitit-launcher", "submitit"),
    "hydra/launcher=submitit_slurm": ("hydra_submitit_launcher", "hydra-submitit-launcher", "submitit"),
    "hydra/sweeper=optuna": ("hydra_optuna_sweeper", "hydra-optuna-sweeper", "optuna"),
}
"""What is typed -> module in ``hydra_plugins``, distribution, extra of ours."""


def check_extras(typed: Sequence[str]) -> None:
    """Refuse a launcher or sweeper whose package is missing, before Hydra looks for parts of it.

    Raises:
        UserError: it is not installed.
    """
    for line in typed:
        module, distribution, extra = EXTRAS.get(line.lstrip("+"), ("", "", ""))
        if module and find(f"hydra_plugins.{module}") is None:
            raise UserError(f"{line}: {distribution} is not installed", f"pip install 'hooktune[{extra}]'")


def chosen_as_it_goes(typed: Sequence[str]) -> bool:
    """Whether a sweeper picks the values of a job when it knows what came of those before."""
    return any(line.lstrip("+").startswith("hydra/sweeper=") and not line.endswith("=basic") for line in typed)
