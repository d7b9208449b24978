"""What a trainer switches for the whole process is put back, for the runs that come after in it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def put_back() -> Generator[None]:
    """While inside, ``trainer.deterministic`` and ``trainer.benchmark`` may set what they like.

    Example:
        >>> with put_back():
        ...     torch.use_deterministic_algorithms(True)
        >>> torch.are_deterministic_algorithms_enabled()
        False
    """
    mode, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        torch.backends.cudnn.benchmark = benchmark
