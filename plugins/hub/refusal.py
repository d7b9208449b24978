"""What ``datasets`` says when it cannot load a set, told with what to type."""

from __future__ import annotations

import re

from core.api import UserError
from plugins.hub.options import HubOptions


def refusal(error: Exception, options: HubOptions, split: str) -> UserError:
    """The error for a user; the words of ``datasets`` 4 tell its errors apart, for most are plain ``ValueError``.

    Args:
        error: What it raised.
        options: Which set.
        split: Which split of it.
    """
    said = " ".join(str(error.__cause__ or error).split())
    named = ", ".join(re.findall(r"'([^']+)'", said.rpartition("[")[2].partition("]")[0]))
    path = options.path
    if re.match("Config name is missing|BuilderConfig", said):
        without = f"no subset {options.subset}" if options.subset else "several subsets"
        return UserError(f"data.path={path} has {without}", f"data.subset=one of {named}")
    if re.match("Unknown split|Bad split", said):
        side = "train" if split == options.train else "validation"
        whole = ", or data.streaming=false to take a part of one" if "[" in split else ""
        return UserError(f"data.path={path} has no split {split}", f"data.{side}=one of {named}{whole}")
    if "scripts are no longer supported" in said:
        return UserError(
            f"data.path={path} is a loading script, and code that comes with data is not run",
            "data.revision=refs/convert/parquet, which the hub makes of many, or data=jsonl data.train=FILE",
        )
    if "gated" in said:
        return gated(path)
    if isinstance(error, ConnectionError):
        return UserError(
            f"data.path={path}: no folder here, and nothing in the cache; the hub is not asked (HF_HUB_OFFLINE)",
            "HF_HUB_OFFLINE=0 in front of the command, or data=jsonl data.train=FILE",
        )
    if "any data file" in said:
        return UserError(f"data.path={path} holds no data files", "files of parquet, jsonl, csv or txt in it")
    return UserError(f"data.path={path} cannot be read: {said[:300]}", f"look into {path}")


def gated(path: str | None) -> UserError:
    """Of a set that its owners give away on demand."""
    where = f"https://huggingface.co/datasets/{path}"
    return UserError(f"data.path={path} is gated", f"ask for access on {where}, then type: hf auth login")
