"""Lines that libraries log while they are imported and that no user can do anything about."""

from __future__ import annotations

import logging

NOISE = {
    "torchao": "Failed to load",  # extensions for GPUs that are not here
    "torchao.kernel.intmm": "Detected no triton",  # as on every CPU
    "torch.utils._pytree": "register_constant",  # torchao's use of torch
    "bitsandbytes.autograd._functions": "inputs will be cast",  # int8 computes in float16, each layer says so
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward",  # an optional kernel of the hub's
}
"""Logger -> words of the lines that are dropped."""


def hush() -> None:
    """Drop those lines; filters rather than levels, for torch sets its levels again."""
    for name, words in NOISE.items():
        logger = logging.getLogger(name)
        if not any(isinstance(known, _Without) for known in logger.filters):
            logger.addFilter(_Without(words))


class _Without(logging.Filter):
    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words

    def filter(self, record: logging.LogRecord) -> bool:
        return self.words not in record.getMessage()
