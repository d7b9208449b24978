"""What comes out of an adapted layer has the dtype of what went in.

Over 8- and 4-bit layers peft's IA3 asks for the output's dtype after it has cast the input to float32: a model in
bfloat16 then meets float32 in the layer that follows, and fails wherever there is no autocast.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

_hooked: WeakSet[nn.Module] = WeakSet()


def keep_outputs(model: nn.Module) -> None:
    """Cast the output of each adapted layer of ``model`` back where it differs; a layer is looked after once."""
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer) and layer not in _hooked:
            _hooked.add(layer)
            layer.register_forward_hook(_cast)


def _cast(_layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    given = inputs[0] if inputs else None
    if not isinstance(given, Tensor) or not isinstance(output, Tensor) or not given.is_floating_point():
        return None
    if output.dtype == given.dtype or torch.is_autocast_enabled(given.device.type):
        return None
    return output.to(given.dtype)
