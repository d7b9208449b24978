"""What was typed, made into what Hydra accepts: pluses stripped, typos named."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from core.errors import UserError
from core.registry import AXES

VALUES = ("model", "trainer", "experiment")
"""Axes that choose values only."""

GROUPS = (*AXES, *VALUES)


STRUCTURE = set("'\"\\,[]{}()$")
"""Signs that mean something in Hydra's grammar: a value without them is plain text, whatever Hydra makes of it."""


def parse(typed: Sequence[str]) -> list[Override]:
    """Parse overrides with Hydra's grammar; letters and signs that it lacks are quoted for it.

    Raises:
        UserError: one is no override, or its value needs quotes.

    Example:
        >>> [str(override.value()) for override in parse(["data.train=käse=1.jsonl"])]
        ['käse=1.jsonl']
    """
    return [_parse(line) for line in typed]


def _parse(line: str) -> Override:
    key, equals, value = line.partition("=")
    if not key.lstrip("+~") or not (equals or line.startswith("~")):
        if Path(line).is_file():
            raise UserError(f"{line!r} is no override", f"data=jsonl data.train={shlex.quote(line)}")
        near = get_close_matches(key.lstrip("+"), GROUPS, 1)
        raise UserError(f"{line!r} is no override", f"{near[0] if near else 'method'}=NAME, or KEY=VALUE")
    parser = OverridesParser.create()
    as_text = f"{key}={quoted(value)}"
    for attempt in [line] if STRUCTURE & set(value) else [line, as_text]:
        with suppress(HydraException):
            return parser.parse_override(attempt)
    mended = f"{key}={re.sub(',+', ',', value).strip(',')}"
    with suppress(HydraException):
        parser.parse_override(mended)
        if mended != line:
            what = "it ends with a comma" if value.endswith(",") else "nothing stands beside a comma"
            text = "" if key.lstrip("+~") in GROUPS else f"  (text is {shlex.quote(as_text)})"
            raise UserError(f"{line}: {what}", f"{mended}{text}")
    with suppress(HydraException):
        parser.parse_override(f"{key}=0")
        raise UserError(f"{line}: its value cannot be read", f"quote it: {shlex.quote(as_text)}")
    raise UserError(f"{key!r} is no name of an option", "python -m core --cfg job lists the options")


def quoted(value: object) -> str:
    """A value as Hydra's grammar takes any text.

    Example:
        >>> print("data.train=" + quoted("my, rows.jsonl"))
        data.train="my, rows.jsonl"
    """
    # what looks like an interpolation is text too: OmegaConf wants a backslash before it, and those before that doubled
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", str(value))
    return QuotedString(text, Quote.double).with_quotes()


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
    if axis == "experiment" and chosen == [None]:
        return []
    for value in chosen:
        if not isinstance(value, str) or value not in names[axis]:
            raise _no_such_name(axis, value, names)
    return [str(value) for value in chosen]


def _no_such_name(axis: str, value: Any, names: Mapping[str, Collection[str]]) -> UserError:
    name, known = str(value), sorted(names[axis])
    if value is None:
        return UserError(f"{axis}=null does not exist", f"{axis}={'|'.join(known)}")
    if axis == "data" and Path(name).is_file():
        return UserError(f"data={name} is a file: data says how rows are read", f"data=jsonl data.train={quoted(name)}")
    near = get_close_matches(name, known, 1) or [n for n in known if n.lower() == name.lower()]
    there = [other for other in names if name in names[other]]
    guess = f"there is {there[0]}={name}  " if there else f"did you mean {axis}={near[0]}?  " if near else ""
    return UserError(f"{axis}={name} does not exist", f"{guess}{axis}={'|'.join(known)}")


def _values(override: Override, known: Collection[str], multirun: bool) -> list[Any]:
    if not override.is_sweep_override():
        return [override.value()]
    _only_multirun(override, multirun)
    value: Any = override.value()
    if hasattr(value, "filter"):  # glob(*)
        found = list(value.filter(sorted(known)))
        if not found:
            names = "|".join(sorted(known))
            raise UserError(f"{override.input_line} finds no name", f"{override.key_or_group}={names}")
        return found
    return [_plain(element) for element in value.list] if hasattr(value, "list") else [str(value)]


def _plain(element: Any) -> Any:
    """A swept name may have been quoted."""
    return getattr(element, "text", element)


def _only_multirun(override: Override, multirun: bool) -> None:
    if not multirun:
        raise UserError(f"{override.input_line} is several values", "add -m for a run each, or keep one name")
