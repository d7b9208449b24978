"""A set of the Hugging Face hub, pinned to the commit it is at when it is read, or a folder laid out like one.

No code that comes with a set is ever run: ``datasets`` refuses loading scripts since version 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from core.api import DataSource, Row, UserError, without_filler
from plugins.hub.commit import newest_commit
from plugins.hub.options import HubOptions
from plugins.hub.refusal import refusal


class Hub(DataSource):
    """Splits of one set."""

    def __init__(self, options: HubOptions) -> None:
        self.options = options
        self.folder = Path(str(options.path)).expanduser()

    def rows(self, split: Literal["train", "validation"]) -> Iterator[Row] | None:
        """Rows of the split that is named for this side; None when there is none to validate on.

        Raises:
            UserError: there is no such set, subset, split or revision, or it cannot be reached or read.
        """
        named = self._named(split)
        return self._told(self._loaded(named), named) if named else None

    def origin(self, split: str, index: int) -> str:
        """Set, split and row."""
        return f"{self.options.path}/{self._named(split)}:{index + 1}"

    def fingerprint(self) -> str | None:
        """The commit, or each file's path, size and time of change; None where the hub is not asked (offline)."""
        o, files = self.options, sorted(file for file in self.folder.rglob("*") if file.is_file())
        which = self._commit or [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        return f"{o.path} {o.subset} {o.train} {o.validation} {which}" if which else None

    def _named(self, split: str) -> str | None:
        return self.options.train if split == "train" else self.options.validation

    def _loaded(self, split: str) -> Iterable[Row]:
        import datasets

        o, commit = self.options, self._commit
        place = str(self.folder if self.folder.is_dir() else o.path)
        try:
            found: Any = datasets.load_dataset(place, o.subset, split=split, revision=commit, streaming=o.streaming)
        except Exception as error:  # whatever datasets, pyarrow and pandas make of foreign files
            raise refusal(error, o, split) from error
        if o.revision and not commit:
            _check_cached(found, o)
        return found

    def _told(self, rows: Iterable[Row], split: str) -> Iterator[Row]:
        """The rows; with streaming, files are opened here, so what is wrong with them shows here."""
        try:
            yield from map(without_filler, rows)
        except Exception as error:  # as above
            raise refusal(error, self.options, split) from error

    @cached_property
    def _commit(self) -> str | None:
        """What ``data.revision`` stands for now; None for a folder, and where the hub is not asked (offline)."""
        if self.folder.exists():
            _check_folder(self.folder, self.options)
            return None
        return newest_commit(str(self.options.path), self.options.revision)


def _check_folder(folder: Path, o: HubOptions) -> None:
    """Refuse what ``datasets`` would misread.

    Raises:
        UserError: it is a file, or was written by ``save_to_disk``, or a revision of it is wanted.
    """
    if folder.is_file():
        raise UserError(f"data.path={o.path} is a file", f"data=jsonl data.train={o.path}")
    if o.revision:
        raise UserError(f"data.path={o.path} is a folder, which has no revisions", "data.revision=null")
    for mark, train in (("state.json", folder), ("dataset_dict.json", folder / o.train)):
        if (folder / mark).exists():
            raise UserError(f"data.path={o.path} was written by save_to_disk", f"data=jsonl data.train={train}")


def _check_cached(found: Any, o: HubOptions) -> None:
    """Offline, ``datasets`` takes what was cached last, whatever its revision.

    Raises:
        UserError: that is not, or not known to be, the one that is wanted.
    """
    files = [Path(entry["filename"]) for entry in getattr(found, "cache_files", ())]
    if not files or not all(o.revision in file.parts for file in files):
        raise UserError(
            f"data.revision={o.revision}: offline, there is only the copy of {o.path} that was cached last",
            "data.revision=null takes that one, HF_HUB_OFFLINE=0 in front of the command fetches the other",
        )
