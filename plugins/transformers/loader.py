"""Models and tokenizers through transformers' auto classes."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from core.api import Head, Loader, ModelFacts, ModelOptions, UserError, model_facts, model_folder
from plugins.transformers.options import TransformersOptions


class Transformers(Loader):
    """Hub id, local folder or GGUF file."""

    def __init__(self, options: TransformersOptions) -> None:
        self.options = options

    def describe(self, source: ModelOptions) -> ModelFacts:
        """Facts from the config and a build on the meta device; no weights are read.

        Raises:
            UserError: ``source.path`` is no model, or one of an unknown architecture.
        """
        config = self._config(source)
        auto: Any = getattr(transformers, Head().auto_class)
        try:
            with torch.device("meta"):
                model: Any = auto.from_config(config, trust_remote_code=source.trust_remote_code)
        except ValueError as error:
            raise UserError(
                f"{source.path}: {_first_line(error)}", "give model.path a causal language model"
            ) from error
        return model_facts(model, Path(model_folder(source)))

    def tokenizer(self, source: ModelOptions) -> PreTrainedTokenizerBase:
        """The tokenizer, with its chat template where the model has one.

        Raises:
            UserError: the folder has none, or a damaged one.
        """
        folder = model_folder(source)
        try:
            return AutoTokenizer.from_pretrained(folder, **_remote(source))
        except Exception as error:  # whatever transformers makes of a file that is damaged
            here = [file.name for file in Path(folder).glob("*")]
            gone = here and not any(name.startswith(("tokenizer.", "vocab")) for name in here)
            why = "there is no tokenizer.json and no tokenizer.model" if gone else _first_line(error)
            raise UserError(
                f"{source.path} has no tokenizer that can be used: {why}", "copy tokenizer.json and its config there"
            ) from error

    def load(self, source: ModelOptions, head: Head, options: Mapping[str, Any]) -> nn.Module:
        """Weights in, frozen layers in ``source.dtype``.

        Raises:
            UserError: the weights are missing or damaged.
        """
        auto: Any = getattr(transformers, head.auto_class)
        attention = {} if self.options.attention == "auto" else {"attn_implementation": self.options.attention}
        device = {"device_map": {"": torch.cuda.current_device()}} if options and torch.cuda.is_available() else {}
        try:
            with _silent():
                model, found = auto.from_pretrained(
                    model_folder(source),
                    dtype=getattr(torch, source.dtype),
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # they are named below
                    **_remote(source),
                    **attention,
                    **device,
                    **head.config,
                    **options,
                )
        except (OSError, ValueError, ImportError) as error:
            raise UserError(f"{source.path} cannot be loaded: {_first_line(error)}", "check model.path") from error
        except Exception as error:
            if "afetensor" not in type(error).__name__ + str(error):
                raise
            raise UserError(f"{source.path}: damaged weights: {_first_line(error)}", "download it again") from error
        _check_complete(model, found, source.path, new_head=head != Head())
        return model

    def _config(self, source: ModelOptions) -> PreTrainedConfig:
        folder = model_folder(source)
        try:
            return AutoConfig.from_pretrained(folder, **_remote(source))
        except (OSError, ValueError, json.JSONDecodeError) as error:
            raise UserError(
                f"model.path={source.path} is no model: {_first_line(error)}",
                "model.path=FOLDER with a config.json, a hub id that can be reached, or a .gguf file",
            ) from error


@contextmanager
def _silent() -> Generator[None]:
    """Without transformers' bar and its report on the weights, which ``_check_complete`` says in two lines."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)


def _check_complete(model: Any, found: Mapping[str, Any], path: str, new_head: bool) -> None:
    """Refuse weights that were left random: nothing else would ever say so.

    A head of its own, such as a classifier's, is new by intention and may be missing.
    """
    # (name, shape in the file, shape in the model); a tied layer is not missing, transformers knows of it
    shapes = [f"{name} is {tuple(a)} instead of {tuple(b)}" for name, a, b in found.get("mismatched_keys", ())]
    body = model.base_model_prefix
    missing = sorted(name for name in found["missing_keys"] if not new_head or name.startswith(f"{body}."))
    wrong = [*shapes, *(f"{name} is missing" for name in missing)]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise UserError(f"{path}: the weights do not fit the config: {wrong[0]}{more}", "download it again")


def _remote(source: ModelOptions) -> dict[str, Any]:
    return {"revision": source.revision or "main", "trust_remote_code": source.trust_remote_code}


def _first_line(error: BaseException) -> str:
    """The first line; where that only begins a list, the last one, which says what to do."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = lines[-1] if lines[0].rstrip().endswith(":") else lines[0]
    return f"{type(error).__name__}: {line}" if isinstance(error, LookupError) else line
