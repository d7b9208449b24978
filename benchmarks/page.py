"""docs/benchmarks.md: a section for each benchmark, each with the machine that it ran on."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import psutil

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
HEAD = "# Speed and memory\n\n<!-- written by the commands that each section names -->\n"
PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets")


def has_amx() -> bool:
    """Whether the processor multiplies tiles of bfloat16."""
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and "amx_bf16" in cpu.read_text()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Processor, memory, versions, date and command, as a line of the page."""
    cpu = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.*)", cpu.read_text()) if cpu.exists() else None
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"{name[1] if name else 'unknown processor'}, {cores()} cores {'with' if has_amx() else 'without'} AMX, "
        f"{psutil.virtual_memory().total / 1e9:.0f} GB of memory; Python {python}, {packages}; "
        f"{date.today().isoformat()}; `{' '.join(['python', Path(sys.argv[0]).as_posix(), *sys.argv[1:]])}`."
    )


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown.

    Example:
        >>> print(table(["a", "b"], [["1", "2"]]))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    lines = [heading, *rows]
    drawn = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([drawn[0], "|" + "---|" * len(heading), *drawn[1:]])


def write_section(page: Path, title: str, text: str) -> None:
    """Put a section in the place of the one with its title, or behind all others."""
    before = page.read_text(encoding="utf-8") if page.exists() else HEAD
    head, *sections = re.split(r"(?m)^(?=## )", before)
    fresh = f"## {title}\n\n{text.strip()}\n"
    kept = [fresh if section.startswith(f"## {title}\n") else section for section in sections]
    if fresh not in kept:
        kept.append(fresh)
    page.write_text("\n".join(part.strip() + "\n" for part in [head, *kept]), encoding="utf-8")
