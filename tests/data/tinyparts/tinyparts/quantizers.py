"""Quantizers with a preparation and a conversion."""

import torch
from torch import nn

from core.api import Quantizer

SEEN: list[str] = []


class Rounded(Quantizer):
    """Training sees rounded weights through a straight-through estimator; afterwards they are rounded for good."""

    bits = 16.0

    def __init__(self, options):
        self.options = options

    def load_options(self, training):
        SEEN.append(f"load training={training}")
        return {}

    def quantized(self, layer):
        return hasattr(layer, "rounded")

    def prepare(self, model):
        SEEN.append("prepare")
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.rounded = False
        return model

    def convert(self, model):
        SEEN.append("convert")
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.data = (layer.weight.data * 64).round() / 64
                layer.rounded = True
        return Converted(model)


class Converted(nn.Module):
    """A conversion may give another object than it was given."""

    def __init__(self, model):
        super().__init__()
        self.model = model


class Forgotten(Quantizer):
    """Asks for something that a loader drops."""

    bits = 4.0

    def __init__(self, options):
        self.options = options

    def quantized(self, layer):
        return False


assert torch.__version__
