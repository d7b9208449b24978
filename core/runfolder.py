"""The folder a run leaves behind: written under a hidden name, and renamed when all of it is there."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from core.errors import UserError
from core.run_files import checkpoint_of, how_to_go_on, read_status, saved


class RunFolder:
    r"""One run's folder. As a context manager it finishes as ``done``, ``stopped`` (interrupted) or ``failed``.

    Attributes:
        path: Where to write now; changes when the run is finished.
        final: The name it gets when it is finished.

    Example:
        >>> import tempfile
        >>> parent = tempfile.mkdtemp()
        >>> with RunFolder.create(f"{parent}/first", "lora", datetime.now()) as folder:
        ...     folder.log({"split": "train", "step": 1, "loss": float("nan")})
        >>> (folder.path / "metrics.jsonl").read_text()
        '{"split": "train", "step": 1, "loss": null}\n'
    """

    def __init__(self, final: Path, path: Path, status: Mapping[str, Any]) -> None:
        self.final = final
        self.path = path
        self._status = dict(status)
        self._step = 0
        self._clock = time.monotonic() - (status["seconds"] or 0.0)
        self._lock = _hold(path, final)
        self.status(state="running", error=None, ended=None)

    @classmethod
    def create(cls, run_dir: str | None, what: str, started: datetime) -> RunFolder:
        """Begin a new folder.

        Args:
            run_dir: ``run.dir``: exactly this folder; None for ``runs/<date>_<time>_<what>``.
            what: What was chosen, such as ``"lora-int4"``.
            started: When the run started, in local time.

        Raises:
            UserError: the folder is there and holds something, or cannot be written.
        """
        with _writing(Path(run_dir or "runs")):
            final, path = (
                _given(run_dir) if run_dir else _named(f"{started:%Y-%m-%d_%H-%M-%S}_{what}".replace("/", "-"))
            )
        times = {"started": started.astimezone().isoformat(timespec="seconds"), "ended": None, "seconds": None}
        memory = {"peak_memory": None, "predicted_memory": None}
        return cls(final, path, {"state": "running", "error": None, **times, **memory})

    @classmethod
    def reopen(cls, run: Path) -> RunFolder:
        """Go on in the folder of a run that stopped, or in the hidden one of a run that was killed.

        Its log is appended to, and its seconds go on counting. Finished, it has its old name again.

        Raises:
            UserError: ``run`` is no run folder, or another process is writing it.
        """
        run = run.expanduser().absolute()
        final = run.with_name(run.name[1 : -len(".partial")]) if run.match(".*.partial") else run
        path = _partial(final)
        with _writing(final):
            if run == final and final.is_dir() and not path.exists():
                read_status(final)
                final.rename(path)
        return cls(final, path, read_status(path, asked=run))

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint of a stopped run lies."""
        return checkpoint_of(self.path)

    def write_config(self, tree: Mapping[str, Any], overrides: Sequence[str]) -> None:
        """Write ``config.yaml`` (all values) and ``overrides.txt`` (what was typed, one a line)."""
        self._write("config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(tree))))
        self._write("overrides.txt", "".join(f"{line}\n" for line in overrides))

    def rewind(self, step: int) -> None:
        """Take back what was logged after a step: a run that is resumed logs those steps again."""
        file = self.path / "metrics.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line).get("step", 0) <= step]
        self._write("metrics.jsonl", "".join(kept))
        self._step = step

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``; a number that is not finite becomes null."""
        self._step = record.get("step", self._step)
        with _writing(self.path), (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(record), allow_nan=False, ensure_ascii=False) + "\n")

    def status(self, **fields: Any) -> None:
        """Change fields of ``status.json``: state, error, started, ended, seconds, peak_memory, predicted_memory."""
        self._status.update(fields)
        self.write_json("status.json", self._status)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file; a reader sees all of it or the one before."""
        self._write(name, json.dumps(_plain(value), allow_nan=False, ensure_ascii=False, indent=2) + "\n")

    def finish(self, state: str, error: str | None = None) -> Path:
        """Write the last status and give the folder its name.

        Args:
            state: ``done``, ``failed``, ``refused`` or ``stopped``.
            error: What went wrong.

        Returns:
            The folder, which is ``final`` unless something else took that name meanwhile.
        """
        ended = datetime.now().astimezone().isoformat(timespec="seconds")
        self.status(state=state, error=error, ended=ended, seconds=round(time.monotonic() - self._clock, 3))
        self._lock.release()
        with _writing(self.final):
            (self.path / _LOCK).unlink(missing_ok=True)
            self.path = self.final = _rename(self.path, self.final)
        return self.path

    def _write(self, name: str, text: str) -> None:
        file = self.path / name
        with _writing(file):
            fresh = file.with_name(f".{name}.new")
            fresh.write_text(text, encoding="utf-8")
            os.replace(fresh, file)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.path == self.final:
            return
        if error is None:
            self.finish("done")
            return
        with suppress(UserError):  # a disk that is full is the error on its way already
            if isinstance(error, KeyboardInterrupt):
                self.finish("stopped")
                error.add_note(self._how_to_go_on())
            else:
                self.finish(
                    "failed", error.what if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                )

    def _how_to_go_on(self) -> str:
        if saved(self.path):
            return f"stopped after training, {self.path} is saved and not measured"
        if self.checkpoint.exists():
            return f"stopped after step {self._step}, with a checkpoint; go on with: {how_to_go_on(self.path)}"
        return f"stopped before training, {self.path} holds no checkpoint"


class OthersFolder(RunFolder):
    """The folder of a run as its further processes have it: the first one writes, they only read."""

    def __init__(self, path: Path) -> None:
        self.final = self.path = path

    def log(self, record: Mapping[str, Any]) -> None:
        """Leave it to the first."""

    def status(self, **fields: Any) -> None:
        """Leave it to the first."""

    def finish(self, state: str, error: str | None = None) -> Path:
        """Leave it to the first."""
        return self.path

    def _write(self, name: str, text: str) -> None:
        """Leave it to the first."""


_LOCK = ".lock"


def _hold(path: Path, final: Path) -> FileLock:
    """Keep other processes out; the system lets go of it when this process dies, however it dies."""
    lock = FileLock(path / _LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(f"{final} is being written by another process", "wait for it, or stop it first") from None
    return lock


def check_unheld(final: Path) -> None:
    """Whether nobody is writing a run.

    Raises:
        UserError: another process is.
    """
    if (path := _partial(final)).exists():
        _hold(path, final).release()


def _partial(final: Path) -> Path:
    return final.with_name(f".{final.name}.partial")


def check_free(run_dir: str) -> None:
    """Whether ``run.dir`` can be begun in.

    Raises:
        UserError: something is there, or it cannot be looked at.
    """
    with _writing(Path(run_dir)):
        _free(run_dir)


def _free(run_dir: str) -> tuple[Path, Path]:
    final = Path(run_dir).expanduser().absolute()
    path = _partial(final)
    if final.is_file() or (final.is_dir() and any(final.iterdir())):
        raise UserError(f"run.dir={run_dir} is there and not empty", "give run.dir a new folder, or leave it out")
    if path.exists():
        raise UserError(f"run.dir={run_dir}: a run that did not end lies in {path}", f"python -m core resume {path}")
    return final, path


def _given(run_dir: str) -> tuple[Path, Path]:
    final, path = _free(run_dir)
    path.mkdir(parents=True)
    return final, path


def _named(name: str) -> tuple[Path, Path]:
    """The first name that is free; two runs of one second get ``name`` and ``name-2``."""
    names = _names(Path("runs").absolute() / name)
    while True:
        final = next(name for name in names if not name.exists())
        with suppress(FileExistsError):
            _partial(final).mkdir(parents=True)
            return final, _partial(final)


def _names(final: Path) -> Iterator[Path]:
    yield final
    yield from (final.with_name(f"{final.name}-{number}") for number in count(2))


def _rename(path: Path, final: Path) -> Path:
    if final.is_dir() and not any(final.iterdir()):
        final.rmdir()  # an empty run.dir was allowed
    return path.rename(next(name for name in _names(final) if not name.exists()))


@contextmanager
def _writing(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or path}: {error.strerror}",
            "run.dir=FOLDER with free space that you may write to",
        ) from None


def _plain(value: Any) -> Any:
    """What JSON can hold; tensors and numpy's numbers become Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, os.PathLike):
        return str(value)
    number = float(value)
    return number if math.isfinite(number) else None
