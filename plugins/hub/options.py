"""Options of rows from the hub: types and limits."""

from dataclasses import dataclass
from typing import ClassVar

from core.api import DataOptions, UserError


@dataclass(frozen=True, kw_only=True)
class HubOptions(DataOptions):
    """Values and comments are in ``conf/data/hub.yaml``."""

    free: ClassVar = frozenset({"path", "subset", "train", "validation", "revision"})

    name: str
    path: str | None
    subset: str | None
    train: str
    validation: str | None
    revision: str | None
    streaming: bool

    def __post_init__(self) -> None:
        DataOptions.__post_init__(self)
        if not self.path:
            raise UserError("data.path is missing", "data.path=NAMESPACE/NAME as on huggingface.co/datasets, or FOLDER")
        if not self.train:
            raise UserError("data.train is empty", "data.train=train, or another split of the set")
