"""What was typed, made into what Hydra accepts: pluses stripped, typos named."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from core.errors import UserError
from core.registry import AXES

VALUES = ("model", "trainer", "experiment")
"""Axes that choose values only."""

GROUPS = (*AXES, *VALUES)


def parse(typed: Sequence[str]) -> list[Override]:
    """Parse overrides with Hydra's grammar.

    Raises:
        UserError: one is no override, or its value needs quotes.
    """
    return [_parse(line) for line in typed]


def _parse(line: str) -> Override:
    if "=" not in line and not line.startswith("~"):
        near = get_close_matches(line.lstrip("+"), GROUPS, 1)
        raise UserError(f"{line!r} is no override", f"{near[0] if near else 'method'}=NAME, or KEY=VALUE")
    try:
        return OverridesParser.create().parse_override(line)
    except HydraException as error:
        key, _, value = line.partition("=")
        raise UserError(
            f"{line}: its value cannot be read: {str(error).splitlines()[0]}", f"quote it: '{key}={quoted(value)}'"
        ) from error


def quoted(value: object) -> str:
    """A value as Hydra's grammar takes any text.

    Example:
        >>> print("data.train=" + quoted("my, rows.jsonl"))
        data.train="my, rows.jsonl"
    """
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def disabled(overrides: Sequence[Override]) -> list[str]:
    """Names in ``plugins.disable``, which is read before composition."""
    for override in overrides:
        if override.key_or_group == "plugins.disable":
            value: Any = override.value()
            names = value if isinstance(value, list) else [value]
            return [str(name) for name in names]
    return []


def group_choice(override: Override) -> bool:
    """Whether it chooses a part or a yaml of values."""
    return override.key_or_group in GROUPS


def check_group(override: Override, names: Mapping[str, Collection[str]], multirun: bool) -> list[str]:
    """Check a choice of an axis, alone or swept, and return the names it chooses.

    Raises:
        UserError: it removes the axis, puts it elsewhere, or names what does not exist.
    """
    axis, line = override.key_or_group, override.input_line or ""
    if override.package is not None:
        raise UserError(f"{line}: an axis cannot be placed elsewhere", f"{axis}=NAME")
    if override.is_delete():
        raise UserError(f"{line}: a run needs a choice for {axis}", f"{axis}={'|'.join(sorted(names[axis]))}")
    chosen = _values(override, names[axis], multirun)
    for value in chosen:
        if value is None and axis == "experiment":
            continue
        if not isinstance(value, str) or value not in names[axis]:
            known = sorted(names[axis])
            near = get_close_matches(str(value), known, 1)
            guess = f"did you mean {axis}={near[0]}?  " if near else ""
            raise UserError(
                f"{axis}={'null' if value is None else value} does not exist", f"{guess}{axis}={'|'.join(known)}"
            )
    return [str(value) for value in chosen]


def _values(override: Override, known: Collection[str], multirun: bool) -> list[Any]:
    if not override.is_sweep_override():
        return [override.value()]
    _only_multirun(override, multirun)
    value: Any = override.value()
    if hasattr(value, "filter"):  # glob(*)
        return list(value.filter(sorted(known)))
    return [_plain(element) for element in value.list] if hasattr(value, "list") else [str(value)]


def _plain(element: Any) -> Any:
    """A swept name may have been quoted."""
    return getattr(element, "text", element)


def _only_multirun(override: Override, multirun: bool) -> None:
    if not multirun:
        key, value = (override.input_line or "").split("=", 1)
        raise UserError(
            f"{key}={value} is several values", f"""add -m for a run each, or quote it: '{key}="{value}"'"""
        )


def check_key(override: Override, known: Collection[str], free: Collection[str], multirun: bool) -> str:
    """Check a value's key and return the override as Hydra takes it.

    Args:
        override: Any but a choice of an axis.
        known: Every key there is, with its group: ``"method.rank"``.
        free: Keys that hold a mapping, below which any key may be added.
        multirun: Whether several values are fine.

    Raises:
        UserError: it removes a key, or no part chosen has it.
    """
    key, line = override.key_or_group, override.input_line or ""
    if key.split(".")[0] == "hydra" or key.startswith("hydra/"):
        return line
    if override.package is not None:
        raise UserError(f"{line}: a key cannot be placed elsewhere", f"{key}=VALUE")
    if override.is_sweep_override():
        _only_multirun(override, multirun)
    below_free = any(key.startswith(f"{name}.") for name in free)
    if override.is_delete():
        raise UserError(f"{line}: {key} cannot be removed", f"{key}=null where null is a value, or leave it out")
    if key not in known and not below_free:
        raise unknown(key, known)
    if override.is_force_add():
        return line
    return ("++" if below_free else "") + line.lstrip("+")


def unknown(key: str, known: Collection[str]) -> UserError:
    """The error for a key that nothing chosen has."""
    group, dot, name = key.partition(".")
    if not dot or group not in {k.partition(".")[0] for k in known}:
        near = get_close_matches(group, [*GROUPS, *(k for k in known if "." not in k)], 1)
        guess = f"did you mean {near[0]}{dot}{name}?" if near else "the axes are " + ", ".join(GROUPS)
        return UserError(f"{key}: there is no such axis or key", guess)
    options = sorted(k.partition(".")[2] for k in known if k.startswith(f"{group}.") and k != f"{group}.name")
    near = get_close_matches(name, options, 1)
    guess = f"did you mean {group}.{near[0]}?  " if near else ""
    return UserError(f"{key}: there is no such option", f"{guess}(options: {', '.join(options)})")
