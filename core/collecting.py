"""When Python looks for garbage: not while libraries are imported, for their objects stay.

Those of a run make some 600,000 objects, and looking through them takes 0.3 s. A first plan took a sixth of its time
for that, and another eighth when the process ended (``core/__main__.py``).
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def paused() -> Generator[None]:
    """Look for no garbage while inside.

    Example:
        >>> with paused():
        ...     gc.isenabled()
        False
        >>> gc.isenabled()
        True
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
