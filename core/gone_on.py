"""Training that goes on from a saved adapter: its method's options are those it was made with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml
from omegaconf import OmegaConf

from core.compose import Config
from core.errors import UserError
from core.loading import checking_options
from core.schema import to_options
from core.source import Start


def with_saved_method(config: Config, start: Start) -> Config:
    """The config with the saved adapter's method options; as it is where none is gone on from.

    An adapter's shape is in its weights: another rank, typed now, would change nothing, and the new run's folder would
    say that it had.

    Raises:
        UserError: an option was typed that differs from the saved one.
    """
    if start.adapter is None:
        return config
    saved = _saved(start, config.tree["method"])
    for key in (line.lstrip("+").partition("=")[0] for line in config.overrides):
        axis, _, name = key.partition(".")
        if axis == "method" and name in saved and saved[name] != config.tree["method"][name]:
            raise UserError(
                f"{key}={config.tree['method'][name]}: the adapter in {config.model.path} was made with {saved[name]}",
                f"leave {key} out, or train a new adapter on the model itself",
            )
    method, offer = {**config.tree["method"], **saved}, config.offers["method"]
    with checking_options(offer):
        cls = config.registry.options_class(offer)
        made = to_options("method", OmegaConf.create(method), cls, offer.part.name, lambda _key: None)
    return replace(config, tree={**config.tree, "method": method}, options={**config.options, "method": made})


def _saved(start: Start, known: dict[str, Any]) -> dict[str, Any]:
    """Options of the run's method that it still has; none where its config is lost."""
    assert start.adapter is not None
    file = start.adapter.parent / "config.yaml"
    if not file.exists():
        return {}
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))["method"]
    except Exception as error:  # whatever yaml makes of a damaged file
        raise UserError(f"{file} cannot be read: {type(error).__name__}", "copy it again") from error
    return {name: value for name, value in found.items() if name in known}
