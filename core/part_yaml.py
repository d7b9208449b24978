"""What stands in a part's yaml: its values and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from core.errors import UserError


def read(file: Path) -> dict[str, Any]:
    """Its keys and values.

    Raises:
        UserError: it is not yaml, or holds something else.
    """
    try:
        found: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        raise not_yaml(error, file) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file} is not yaml in UTF-8", "write it anew") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} holds no values", "name: NAME, and a line for each option")
    return found  # pyright: ignore[reportUnknownVariableType]


def not_yaml(error: yaml.MarkedYAMLError, file: Path | None = None) -> UserError:
    """Where it is wrong; the error knows the file only where yaml read it by itself."""
    mark = error.problem_mark
    place = f"{file or mark.name}:{mark.line + 1}" if mark else str(file or "a yaml file")
    return UserError(f"{place}: is not yaml: {error.problem}", "mend that line, or the one before")


def check_values(file: Path, axis: str) -> None:
    """It holds values of its axis.

    Raises:
        UserError: it holds something else, or Hydra would put them somewhere else.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    for line in text.splitlines():
        package = re.match(r"\s*#\s*@package\s+(\S+)", line)
        if package and package[1] not in (axis, "_group_"):
            raise UserError(f"{file} is for {package[1]} and not for {axis}", f"take the line {line.strip()!r} out")
        if line.strip() and not line.lstrip().startswith("#"):
            break
    read(file)
