"""A saved adapter: two files, of which nothing but safetensors and JSON is read.

``bottleneck_config.json`` holds its shape and where it belongs, ``adapter_model.safetensors`` its tensors in float32,
named ``<module>.<weight>`` without the adapter's name, so that it can be loaded under any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.api import UserError
from plugins.adapters.bottleneck import ACTIVATIONS, Shape

CONFIG = "bottleneck_config.json"
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """An adapter without its weights.

    Attributes:
        shape: Of each of its bottlenecks.
        places: Qualified names of the modules that have one.
        heads: The same for heads of which it has a copy.
    """

    shape: Shape
    places: tuple[str, ...]
    heads: tuple[str, ...]


def write(folder: Path, saved: Saved, tensors: Mapping[str, Tensor]) -> None:
    """Write both files directly into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, folder / WEIGHTS, metadata={"format": "pt"})
    config = {"method": "adapters", **asdict(saved.shape), "places": saved.places, "heads": saved.heads}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> tuple[Saved, Mapping[str, Tensor]]:
    """What ``write`` wrote.

    Raises:
        UserError: a file is missing or damaged.
    """
    try:
        return _saved(json.loads((folder / CONFIG).read_text(encoding="utf-8"))), load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} holds no bottleneck adapter: {error}", "give a folder that adapters saved"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"{folder} holds a damaged adapter: {error!r}", "train it again, or copy it again") from error


def _saved(config: Mapping[str, Any]) -> Saved:
    shape = Shape(**{key: config[key] for key in Shape.__dataclass_fields__})
    if shape.activation not in ACTIVATIONS or shape.norm not in ("none", "before", "after"):
        raise ValueError(f"activation {shape.activation}, norm {shape.norm}")
    return Saved(shape=shape, places=tuple(config["places"]), heads=tuple(config["heads"]))


def fill(module: nn.Module, path: str, tensors: Mapping[str, Tensor]) -> None:
    """Load the tensors of the adapter at ``path`` into ``module``.

    Raises:
        UserError: they are not those of ``module``.
    """
    own = {name.removeprefix(f"{path}."): t for name, t in tensors.items() if name.startswith(f"{path}.")}
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise UserError(
            f"the saved tensors do not fit at {path}: {error}", "load it on the base it was made for"
        ) from error
