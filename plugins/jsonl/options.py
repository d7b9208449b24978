"""Options of rows from files: types and limits."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from core.api import DataOptions, UserError, within
from plugins.jsonl.readers import READERS


def _mixed(key: str, files: Sequence[str]) -> str:
    """What to type for several files."""
    others = ", ".join(f"{file}: 1" for file in files[1:])
    return f"{key}={files[0]} {shlex.quote(f'data.mix={{{others}}}')}, or a folder that holds them"


@dataclass(frozen=True, kw_only=True)
class FilesOptions(DataOptions):
    """Values and comments are in ``conf/data/jsonl.yaml``."""

    free: ClassVar = frozenset({"train", "validation"})

    name: str
    train: str | None = field(metadata={"several": _mixed})
    validation: str | None
    mix: dict[str, float]

    def __post_init__(self) -> None:
        DataOptions.__post_init__(self)
        if not self.train:
            raise UserError("data.train is missing", f"data.train=FILE of {', '.join(READERS)}")
        if self.mix and self.max_rows is not None:
            raise UserError(
                "data.max_rows takes the first rows, which are none of data.mix",
                "data.max_rows=null, and trainer.max_steps=A NUMBER for a short run",
            )
        for file, share in self.mix.items():
            within(f"data.mix.{file}", share, 1e-6)
