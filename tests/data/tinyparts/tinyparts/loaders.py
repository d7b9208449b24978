"""A loader that is not ours: it reads the model in its own way, and puts adapters in its own way."""

import os
from dataclasses import replace
from pathlib import Path

import transformers
from torch import nn
from transformers import AutoConfig, AutoTokenizer

from core.api import Loader, ModelFacts, UserError

SEEN: list[str] = []


class Shelf(Loader):
    def __init__(self, options):
        self.options = options

    def describe(self, source):
        config = AutoConfig.from_pretrained(source.path)
        return ModelFacts(
            path=Path(source.path),
            architecture=config.architectures[0],
            parameters=117_184,
            blocks=tuple(f"model.layers.{i}" for i in range(config.num_hidden_layers)),
            hidden=config.hidden_size,
            vocabulary=config.vocab_size,
            context=config.max_position_embeddings,
            linears={"model.layers.0.self_attn.q_proj": (config.hidden_size, config.hidden_size)},
        )

    def tokenizer(self, source):
        return AutoTokenizer.from_pretrained(source.path)

    def load(self, source, head, options):
        SEEN.append(head.auto_class)
        model = getattr(transformers, head.auto_class).from_pretrained(source.path, **head.config, **options)
        model.config.pad_token_id = 0
        return model

    def wrap_peft(self, model, config, adapter):
        SEEN.append(f"wrap {adapter}")
        wrapped = super().wrap_peft(model, config, adapter)
        assert isinstance(wrapped, nn.Module)
        return wrapped


class Vault(Shelf):
    """Models by names of its own, beside the folders that runs save."""

    def describe(self, source):
        return super().describe(_taken_out(source))

    def tokenizer(self, source):
        return super().tokenizer(_taken_out(source))

    def load(self, source, head, options):
        return super().load(_taken_out(source), head, options)


def _taken_out(source):
    if (Path(source.path).parent / "status.json").exists():
        return source  # a whole model that a run saved
    folder = Path(os.environ["VAULT"]) / source.path.removeprefix("vault://")
    if not source.path.startswith("vault://") or not folder.is_dir():
        raise UserError(f"model.path={source.path} is not in the vault", "model.path=vault://NAME")
    return replace(source, path=str(folder))
