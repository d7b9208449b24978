"""bitsandbytes' int8 (Dettmers et al. 2022) and NF4 (Dettmers et al. 2023) through transformers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import bitsandbytes as bnb
from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant
from torch import Tensor, nn
from transformers import BitsAndBytesConfig

from core.api import Quantizer
from plugins.bitsandbytes.options import Int4Options, Int8Options


class Int8(Quantizer):
    """LLM.int8, https://arxiv.org/abs/2208.07339: a scale for each row of weights."""

    bits: ClassVar[float] = 8.0
    keeps_inputs: ClassVar[bool] = True

    def __init__(self, options: Int8Options) -> None:
        self.options = options

    def load_options(self, training: bool) -> dict[str, Any]:
        """What makes transformers quantize while loading."""
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=self.options.threshold)}

    def quantized(self, layer: nn.Module) -> bool:
        """Whether ``layer`` holds int8."""
        return isinstance(layer, bnb.nn.Linear8bitLt)

    def dequantize(self, layer: nn.Module) -> Tensor:
        """Dense weight ``(outputs, inputs)``."""
        if not isinstance(layer, bnb.nn.Linear8bitLt):
            return super().dequantize(layer)
        weight: Any = layer.weight
        scales: Any = weight.SCB if weight.SCB is not None else layer.state.SCB
        return int8_vectorwise_dequant(weight.data, scales)


class Int4(Quantizer):
    """NF4 with double quantization, https://arxiv.org/abs/2305.14314, sections 3 and 4."""

    bits: ClassVar[float] = 4.127  # 4, an 8-bit scale for 64 weights, a 32-bit one for 256 of those

    def __init__(self, options: Int4Options) -> None:
        self.options = options

    def load_options(self, training: bool) -> dict[str, Any]:
        """What makes transformers quantize while loading."""
        return {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type=self.options.type,
                bnb_4bit_use_double_quant=self.options.double,
            )
        }

    def quantized(self, layer: nn.Module) -> bool:
        """Whether ``layer`` holds 4 bits."""
        return isinstance(layer, bnb.nn.Linear4bit)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Compute products in the model's dtype, and keep the layers as they are during evaluation.

        The library computes in float32 unless told. And on CPUs with AVX512-BF16 one forward without gradient repacks
        a layer in place; training afterwards gets no gradient through it, with no more than a warning, or goes on at
        a tenth of its speed, as the installed kernels have it.
        """
        dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
        layers: Iterable[Any] = model.modules()
        for layer in layers:
            if isinstance(layer, bnb.nn.Linear4bit):
                layer.compute_dtype = dtype
                layer.compute_type_is_set = True
            if hasattr(layer, "support_avx512bf16_for_cpu"):
                setattr(layer, "support_avx512bf16_for_cpu", False)  # noqa: B010  # nn.Module types its attributes as tensors
        return model

    def dequantize(self, layer: nn.Module) -> Tensor:
        """Dense weight ``(outputs, inputs)``."""
        if not isinstance(layer, bnb.nn.Linear4bit):
            return super().dequantize(layer)
        weight: Any = layer.weight
        return dequantize_4bit(weight.data, weight.quant_state)
