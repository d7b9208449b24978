"""Options of rows from files: types and limits."""

from dataclasses import dataclass

from core.api import DataOptions, UserError, within


@dataclass(frozen=True, kw_only=True)
class FilesOptions(DataOptions):
    """Values and comments are in ``conf/data/jsonl.yaml``."""

    name: str
    train: str | None
    validation: str | None
    mix: dict[str, float]

    def __post_init__(self) -> None:
        DataOptions.__post_init__(self)
        if not self.train:
            raise UserError("data.train is missing", "data.train=FILE.jsonl (or .json, .csv, .tsv, .parquet)")
        if self.mix and self.max_rows is not None:
            raise UserError(
                "data.max_rows takes the first rows, which are none of data.mix",
                "data.max_rows=null, and trainer.max_steps=A NUMBER for a short run",
            )
        for file, share in self.mix.items():
            within(f"data.mix.{file}", share, 1e-6)
