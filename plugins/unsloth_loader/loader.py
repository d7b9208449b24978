"""Models through Unsloth's FastLanguageModel (https://docs.unsloth.ai); it patches the process when it is imported."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from core.api import Head, Loader, ModelFacts, ModelOptions, UserError, model_facts, model_folder
from plugins.unsloth_loader.first import unsloth
from plugins.unsloth_loader.options import UnslothOptions

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel


class Unsloth(Loader):
    """A hub id, a folder or a GGUF file; ``method=lora`` goes in by Unsloth's own ``get_peft_model``."""

    def __init__(self, options: UnslothOptions) -> None:
        self.options = options

    def describe(self, source: ModelOptions) -> ModelFacts:
        """Facts from the config and a build on the meta device.

        Raises:
            UserError: ``source.path`` is no model.
        """
        path = model_folder(source)
        try:
            config = AutoConfig.from_pretrained(path, revision=source.revision or "main")
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
        except (OSError, ValueError) as error:
            raise UserError(
                f"model.path={source.path} is no model for Unsloth: {_line(error)}", "loader=transformers"
            ) from error
        return model_facts(model, Path(path))

    def tokenizer(self, source: ModelOptions) -> PreTrainedTokenizerBase:
        """The model's own: Unsloth's may be patched.

        Raises:
            UserError: there is none.
        """
        try:
            return AutoTokenizer.from_pretrained(model_folder(source), revision=source.revision or "main")
        except (OSError, ValueError) as error:
            raise UserError(f"{source.path} has no tokenizer: {_line(error)}", "loader=transformers") from error

    def load(self, source: ModelOptions, head: Head, options: Mapping[str, Any]) -> nn.Module:
        """Weights in, in 16 or 32 bits, or in 4 as Unsloth quantizes.

        Raises:
            UserError: another head or another quantization is asked for than Unsloth can honour.
        """
        if head != Head():
            raise UserError(f"loader=unsloth loads no {head.auto_class}", "loader=transformers")
        four = _in_four_bits(options)
        path = model_folder(source)
        _check_weights(path)
        transformers.logging.disable_progress_bar()
        try:
            with redirect_stdout(io.StringIO()):
                model, _ = unsloth.FastLanguageModel.from_pretrained(
                    path,
                    revision=source.revision,
                    max_seq_length=self.options.max_seq_length,
                    dtype=getattr(torch, source.dtype),
                    load_in_4bit=four,
                    trust_remote_code=source.trust_remote_code,
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"Unsloth cannot load {source.path}: {_line(error)}", "loader=transformers") from error
        return model.to(getattr(torch, source.dtype)) if not four else model

    def wrap_peft(self, model: nn.Module, config: PeftConfig, adapter: str) -> PeftModel:
        """Unsloth's own way for plain LoRA, peft's for everything else."""
        given: Any = config
        if adapter != "default" or not _plain_lora(given):
            return super().wrap_peft(model, config, adapter)
        with redirect_stdout(io.StringIO()):
            return unsloth.FastLanguageModel.get_peft_model(
                model,
                r=given.r,
                lora_alpha=given.lora_alpha,
                lora_dropout=given.lora_dropout,
                target_modules=_targets(model, given.target_modules),
                bias="none",
                random_state=torch.initial_seed() % 2**32,
                use_gradient_checkpointing=False,
            )


def _in_four_bits(options: Mapping[str, Any]) -> bool:
    """Whether the quantizer asks for what Unsloth does: NF4, scales quantized too.

    Raises:
        UserError: it asks for something else, which Unsloth would drop without a word.
    """
    if not options:
        return False
    asked: Any = options.get("quantization_config")
    same = (
        set(options) == {"quantization_config"}
        and getattr(asked, "load_in_4bit", False)
        and asked.bnb_4bit_quant_type == "nf4"
        and asked.bnb_4bit_use_double_quant
    )
    if not same:
        raise UserError(
            "loader=unsloth quantizes to NF4 with double quantization only", "quant=int4, or loader=transformers"
        )
    return True


def _plain_lora(config: Any) -> bool:
    special = ("use_dora", "use_rslora", "modules_to_save", "rank_pattern", "alpha_pattern", "layers_to_transform")
    usual = config.peft_type == "LORA" and config.init_lora_weights is True and config.bias == "none"
    return usual and not any(getattr(config, name, None) for name in special)


def _targets(model: Any, asked: Any) -> list[str]:
    """Last parts of names of linear layers; Unsloth knows no ``all-linear``."""
    if asked != "all-linear":
        return sorted(asked)
    head = model.get_output_embeddings()
    linears = (name for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head)
    return sorted({name.rpartition(".")[2] for name in linears})


def _check_weights(path: str) -> None:
    folder = Path(path)
    if folder.is_dir() and not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise UserError(f"model.path={path} holds no weights", "give the folder that save_pretrained wrote")


def _line(error: BaseException) -> str:
    """The first line; where that only begins a list, the last one, which says what to do."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1] if lines[0].rstrip().endswith(":") else lines[0]
