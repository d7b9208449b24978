"""Everything but the config for a method of the peft library."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from core.contracts import Context, Method, Quantizer
from core.errors import UserError

if TYPE_CHECKING:
    from lightning.pytorch import Callback
    from peft import PeftConfig, PeftModel
    from torch import nn


class PeftMethod(Method):
    """A method of the peft library: a subclass writes ``config`` and nothing else.

    What it saves is a plain peft folder that ``PeftModel.from_pretrained`` loads without this project.
    """

    saves: ClassVar[Literal["adapter", "model"]] = "adapter"

    @abstractmethod
    def config(self, context: Context) -> PeftConfig:
        """Peft's config; ``task_type`` is filled from ``context.head`` where it is None."""

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Put ``context.adapter`` in, or make it trainable when it was loaded.

        Raises:
            UserError: the model has an adapter of that name already.
        """
        from peft import PeftModel

        from core.keep_outputs import keep_outputs

        if isinstance(model, PeftModel) and context.adapter in model.peft_config:
            if not context.continuing:
                raise UserError(
                    f"the model has an adapter {context.adapter!r} already", "give the new one another name"
                )
            wrapped = model
        else:
            config = self.config(context)
            config.task_type = config.task_type or _task_type(context.head.auto_class)
            wrapped = context.wrap_peft(model, config)
        _act(wrapped, [context.adapter])
        others = set(wrapped.peft_config) - {context.adapter}
        for name, parameter in wrapped.named_parameters():
            parts = set(name.split("."))  # peft puts the adapter's name into its parameters'
            if parts & others:
                parameter.requires_grad_(False)
            elif context.continuing and context.adapter in parts:
                parameter.requires_grad_(True)
        keep_outputs(wrapped)
        return wrapped

    def save(self, model: nn.Module, folder: Path, adapter: str) -> None:
        """Peft's own files, directly in ``folder`` whatever the adapter is called."""
        cast("PeftModel", model).save_pretrained(str(folder), selected_adapters=[adapter], save_embedding_layers=False)
        nested = folder / adapter
        if adapter != "default" and nested.is_dir():
            for file in nested.iterdir():
                shutil.move(file, folder / file.name)
            nested.rmdir()

    def load(self, model: nn.Module, folder: Path, adapter: str) -> nn.Module:
        """Put a saved adapter in under the name ``adapter``; afterwards that one acts and nothing is trainable."""
        from peft import PeftModel

        from core.keep_outputs import keep_outputs

        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), adapter_name=adapter)
        else:
            model = PeftModel.from_pretrained(model, str(folder), adapter_name=adapter)  # pyright: ignore[reportArgumentType]
        _act(model, [adapter])
        keep_outputs(model)
        return model.requires_grad_(False)

    def using(self, model: nn.Module, adapters: Sequence[str]) -> AbstractContextManager[None]:
        """While inside, exactly these adapters act; ``()`` is the base model."""
        return _using(cast("PeftModel", model), list(adapters))

    def callbacks(self, context: Context) -> Sequence[Callback]:
        """Keep inputs in the base's dtype under autocast, which casts the weights: a subclass adds its own to these."""
        from core.keep_inputs import KeepInputs

        return [KeepInputs()]

    def merge(self, model: nn.Module, quantizer: Quantizer) -> nn.Module:
        """The base with the acting adapter folded in; quantized layers become plain ones first.

        Raises:
            UserError: the adapter changes an output layer that shares its weight with the embeddings.
        """
        from peft.tuners.tuners_utils import BaseTunerLayer

        wrapped = cast("PeftModel", model)
        inner: Any = wrapped.get_base_model()
        head = inner.get_output_embeddings()
        if isinstance(head, BaseTunerLayer) and inner.config.tie_word_embeddings:
            raise UserError(
                "the adapter acts on an output layer that is tied to the embeddings", "merge another adapter"
            )
        if any(quantizer.quantized(layer) for layer in model.modules()):
            wrapped = _over_plain_layers(wrapped, quantizer)
        return wrapped.merge_and_unload()  # pyright: ignore[reportCallIssue, reportReturnType]


def _over_plain_layers(model: PeftModel, quantizer: Quantizer) -> PeftModel:
    """The acting adapter over dense layers: peft merges into quantized ones by rounding the sum."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    name: Any = model.active_adapter
    weights = get_peft_model_state_dict(model, adapter_name=name)
    config: Any = copy(model.peft_config[name])
    if hasattr(config, "init_lora_weights"):
        config.init_lora_weights = True  # the weights are there: PiSSA and its like would decompose the base again
    inner: Any = model.get_base_model()
    for flag in ("is_loaded_in_8bit", "is_loaded_in_4bit"):  # IA3 takes nothing out where it is set
        if getattr(inner, flag, False):
            setattr(inner, flag, False)
    base: Any = model.unload()  # pyright: ignore[reportCallIssue]
    for path, layer in list(base.named_modules()):
        if quantizer.quantized(layer):
            base.set_submodule(path, _plain(layer, quantizer.dequantize(layer), base.dtype))
    if (theirs := getattr(base, "hf_quantizer", None)) is not None:
        theirs.remove_quantization_config(base)
    plain: Any = get_peft_model(base, config, adapter_name=name)
    set_peft_model_state_dict(plain, weights, adapter_name=name)
    return plain.eval()


def _plain(base: Any, weight: Any, dtype: Any) -> nn.Module:
    """A dense layer with the dequantized weight of ``base``."""
    import torch

    plain = torch.nn.Linear(
        base.in_features, base.out_features, base.bias is not None, device=weight.device, dtype=dtype
    )
    plain.weight.data.copy_(weight)
    if base.bias is not None:
        plain.bias.data.copy_(base.bias.data)
    return plain.requires_grad_(False)


def _task_type(auto_class: str) -> str | None:
    tasks = {
        "AutoModelForCausalLM": "CAUSAL_LM",
        "AutoModelForSequenceClassification": "SEQ_CLS",
        "AutoModelForTokenClassification": "TOKEN_CLS",
        "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
    }
    return tasks.get(auto_class, "FEATURE_EXTRACTION")


def _act(model: PeftModel, adapters: list[str]) -> None:
    """Let exactly these adapters act."""
    tuner: Any = model.base_model
    if model.active_peft_config.is_prompt_learning:
        model.active_adapter = adapters[0]
    else:
        tuner.set_adapter(adapters if len(adapters) > 1 else adapters[0])
        model.active_adapter = adapters[0]


@contextmanager
def _using(model: PeftModel, adapters: list[str]) -> Generator[None]:
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    before = list(model.active_adapters)
    try:
        if adapters:
            _act(model, adapters)
            yield
        else:
            with model.disable_adapter():
                yield
    finally:
        _act(model, before)
        for parameter, gradient in gradients:
            parameter.requires_grad_(gradient)
