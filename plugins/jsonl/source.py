"""Your own files: one, a folder of them, or several that are mixed."""

from __future__ import annotations

import logging
import shlex
from array import array
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple

from core.api import DataSource, Row, RowError, UserError
from plugins.jsonl.containers import COMPRESSED, STDIN, suffix_of
from plugins.jsonl.options import FilesOptions
from plugins.jsonl.readers import READERS, read
from plugins.jsonl.text import shown

log = logging.getLogger("hooktune")


class Named(NamedTuple):
    """What a key of the config names.

    Attributes:
        file: Or a folder.
        share: How often each of its rows is taken in an epoch.
        key: ``data.train``, ``data.validation`` or ``data.mix``.
    """

    file: str
    share: float
    key: str


class Files(DataSource):
    """Files to train on and, if given, to validate on, read one row at a time."""

    def __init__(self, options: FilesOptions) -> None:
        self.options = options
        self.files: dict[str, list[tuple[Path, Named]]] = {}
        self.places: dict[str, tuple[array[int], array[int]]] = {}
        self.told = False

    def rows(self, split: Literal["train", "validation"]) -> Iterator[Row | RowError] | None:
        """All rows; None when no validation file is given.

        Raises:
            UserError: there is no such file, or it is empty or of an unknown kind.
        """
        named = self._named(split)
        if not named:
            return None
        self.files[split] = [(file, name) for name in named for file in _checked(name.file, name.key)]
        self._tell_passed_over()
        return self._rows(split)

    def origin(self, split: str, index: int) -> str:
        """File and line."""
        if split not in self.places or index >= len(self.places[split][0]):
            return f"data.{split}={self._named(split)[0].file}"
        file, line = (column[index] for column in self.places[split])
        path = self.files[split][file][0]
        return f"{shown(path)}:{line}"

    def share(self, split: str, index: int) -> float:
        """The file's, where several are mixed."""
        return self.files[split][self.places[split][0][index]][1].share

    def fingerprint(self) -> str | None:
        """Each file's path, size and time of change; standard input has none."""
        named = [*self._named("train"), *self._named("validation")]
        files = [file for name in named for file in _checked(name.file, name.key)]
        if STDIN in files:
            return None
        self._tell_passed_over()
        stamps = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return f"{stamps} {self.options.mix}"

    def _tell_passed_over(self) -> None:
        """What of the folders is not read, once."""
        named = [] if self.told else [*self._named("train"), *self._named("validation")]
        self.told = True
        for name in named:
            if len(others := _passed_over(Path(name.file).expanduser())):
                more = f" and {len(others) - 5:,} more" if len(others) > 5 else ""
                log.warning("%s=%s: not read: %s%s", name.key, name.file, ", ".join(others[:5]), more)

    def _named(self, split: str) -> list[Named]:
        o = self.options
        if split == "validation":
            return [Named(o.validation, 1.0, "data.validation")] if o.validation else []
        mixed = [Named(file, share, "data.mix") for file, share in o.mix.items()]
        return [Named(o.train or "", 1.0, "data.train"), *mixed]

    def _rows(self, split: str) -> Iterator[Row | RowError]:
        files, lines = self.places[split] = array("L"), array("Q")
        for number, (file, name) in enumerate(self.files[split]):
            before = len(files)
            for line, row in read(file):
                files.append(number)
                lines.append(line)
                yield row
            if len(files) == before:
                raise UserError(f"{name.key}={file} holds no row", f"{_typed(name.key)} with rows in it")


def _checked(name: str, key: str) -> Sequence[Path]:
    """The files that a name stands for.

    Raises:
        UserError: there is none, or none that can be read.
    """
    file = Path(name).expanduser()
    try:
        return _found(file, key)
    except OSError as error:  # a folder that may not be looked into, a name longer than the file system takes
        raise UserError(
            f"{key}={file} cannot be read: {error.strerror}", f"ls -ld {shlex.quote(str(file.parent))}"
        ) from error


def _found(file: Path, key: str) -> Sequence[Path]:
    if file == STDIN:
        return [file]
    if file.is_dir():
        return _inside(file, key)
    if file.is_symlink() and not file.exists():
        raise UserError(f"{key}={file} is a link that leads nowhere", f"ls -l {shlex.quote(str(file))}")
    if not file.exists():
        raise UserError(f"{key}={file} does not exist", _near(file, key))
    if suffix_of(file) not in READERS:
        raise UserError(
            f"{key}={file}: {file.suffix or 'no'} suffix is not known",
            "save it as CSV UTF-8"
            if file.suffix.lower() in (".xlsx", ".xls", ".ods", ".numbers")
            else f"one of {', '.join(READERS)}, or one of them and {', '.join(COMPRESSED)}",
        )
    if file.stat().st_size == 0:
        raise UserError(f"{key}={file} is empty", f"{_typed(key)} with rows in it")
    return [file]


def _inside(folder: Path, key: str) -> Sequence[Path]:
    """All files in a folder, in the order of their names; of a set that ``datasets`` saved, those with rows."""
    saved = (folder / "state.json").exists()
    found = [f for f in sorted(folder.iterdir()) if f.is_file() and not f.name.startswith(".")]
    found = [f for f in found if suffix_of(f) in READERS and (f.suffix == ".arrow" or not saved)]
    if not found:
        raise UserError(
            f"{key}={folder} holds no file with rows",
            f"files of {', '.join(READERS)} in it; folders inside it are not looked into",
        )
    empty = next((file for file in found if file.stat().st_size == 0), None)
    if empty is not None:
        raise UserError(f"{key}={empty} is empty", "fill it, or take it out of the folder")
    return found


def _passed_over(folder: Path) -> Sequence[str]:
    """Names of what is in a folder and no file of rows: folders, and suffixes that are not known."""
    if not folder.is_dir() or (folder / "state.json").exists():
        return []
    seen = [f for f in sorted(folder.iterdir()) if not f.name.startswith(".")]
    return [f"{f.name}/" if f.is_dir() else f.name for f in seen if f.is_dir() or suffix_of(f) not in READERS]


def _near(file: Path, key: str) -> str:
    beside = [f.name for f in file.parent.iterdir()] if file.parent.is_dir() else []
    near = get_close_matches(file.name, beside, 1)
    if near:
        return f"did you mean {file.parent / near[0]}?"
    hub = f", or data=hub data.path={file}" if len(file.parts) == 2 and not file.suffix else ""
    return f"{_typed(key)} of {', '.join(READERS)}{hub}"


def _typed(key: str) -> str:
    """How a file is given."""
    return "data.mix={FILE: 1}" if key == "data.mix" else f"{key}=FILE"
