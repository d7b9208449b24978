"""How much memory a run needed."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

_PROC = Path("/proc/self")


class PeakMemory:
    """The most that was held at once, above what this process held at the start, in bytes.

    On a GPU it is what torch allocated there, else resident memory. One at a time: the counters are the process' own.
    Where the system cannot forget its highest mark (anywhere but on Linux), what was held earlier still counts.

    Example:
        >>> with PeakMemory() as memory:
        ...     block = b"x" * 50_000_000
        >>> memory.peak > 45_000_000
        True
    """

    def __enter__(self) -> PeakMemory:
        cuda = _cuda()
        if cuda is not None:
            cuda.reset_peak_memory_stats()
        give_back()
        self._before = psutil.Process().memory_info().rss
        with suppress(OSError):  # a container may forbid it
            (_PROC / "clear_refs").write_text("5")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Nothing to undo: the mark stays readable."""

    @property
    def peak(self) -> int:
        """The peak so far, in bytes; never negative."""
        cuda = _cuda()
        if cuda is not None and cuda.max_memory_allocated() > 0:
            return cuda.max_memory_allocated()
        return max(0, _resident_peak() - self._before)


def there() -> int:
    """Bytes that this process may come to hold: the machine's memory, or less where a container or a job is limited.

    Example:
        >>> 0 < there() <= psutil.virtual_memory().total
        True
    """
    return min([psutil.virtual_memory().total, *_limits()])


def _limits(root: Path = Path("/sys/fs/cgroup"), own: Path = _PROC / "cgroup") -> Iterator[int]:
    """What the control groups above this process allow, of either version; a word stands for no limit."""
    with suppress(OSError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds and "memory" not in kinds.split(","):
                continue
            above, file = ("memory", "memory.limit_in_bytes") if kinds else ("", "memory.max")
            group = root / above / path.lstrip("/")
            for folder in (group, *group.parents):
                with suppress(OSError, ValueError):
                    yield int((folder / file).read_text(encoding="ascii"))


def give_back() -> None:
    """What was freed goes to the system.

    Kept for what comes, it would not count when an earlier run of the process had it, and lies beside what comes where
    that is of other sizes.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc's alone
        ctypes.CDLL(None).malloc_trim(0)


def _cuda() -> Any:
    """``torch.cuda`` when torch is here already and has a device."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def _resident_peak() -> int:
    if (_PROC / "status").exists():
        fields = dict(line.split(":", 1) for line in (_PROC / "status").read_text().splitlines())
        return int(fields["VmHWM"].removesuffix("kB")) * 1024
    memory: Any = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):
        return memory.peak_wset
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
