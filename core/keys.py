"""A key that was typed against those there are, and what to type where it is wrong."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import Field, dataclass, fields
from difflib import get_close_matches
from typing import Any

from hydra.core.override_parser.types import Override

from core.errors import UserError
from core.options import ModelOptions
from core.overrides import GROUPS, quoted
from core.registry import AXES, Registry
from core.schema import ROOT, annotation, instead_of_several
from core.trainer_options import TrainerOptions


@dataclass(frozen=True)
class Keys:
    """The keys of the parts that were chosen.

    Attributes:
        known: Every key there is, with its group: ``"method.rank"``.
        free: Keys that hold a mapping, below which any key may be added.
        choices: Axis -> name.
        registry: Who offers what.
        multirun: Whether several values are fine.
    """

    known: Sequence[str]
    free: Collection[str]
    choices: Mapping[str, str]
    registry: Registry
    multirun: bool

    def check(self, override: Override) -> str:
        """Check a value's key and return the override as Hydra takes it.

        Args:
            override: Any but a choice of an axis.

        Raises:
            UserError: it removes a key, or gives it several values, or no part chosen has it.
        """
        key, line = override.key_or_group, override.input_line or ""
        if key.split(".")[0] == "hydra" or key.startswith("hydra/"):
            if key in ("hydra/launcher", "hydra/sweeper") and not self.multirun:
                raise UserError(f"{line} is for several runs", "add -m, or leave it out")
            return line
        if override.package is not None:
            raise UserError(f"{line}: a key cannot be placed elsewhere", f"{key}=VALUE")
        adds = any(f"{key}.".startswith(f"{name}.") for name in self.free)
        if key not in self.known and not adds:
            raise self._unknown(key, line.partition("=")[2])
        if override.is_delete():
            nothing = f"{key}=null, or " if "None" in annotation(self._option(key)) else ""
            raise UserError(f"{line}: {key} cannot be removed", f"{nothing}leave it out")
        if override.is_sweep_override() and not self.multirun:
            raise self._several(key, override)
        if override.is_force_add():
            return line
        return ("++" if adds else "") + line.lstrip("+")

    def _several(self, key: str, override: Override) -> UserError:
        text = (override.input_line or "").partition("=")[2]
        option, values = self._option(key), list(getattr(override.value(), "list", ()))
        takes = annotation(option)
        fixes = ["add -m for a run each"]
        if takes.startswith("list"):
            fixes.insert(0, f"a list is {key}=[{text}]")
        if (instead := instead_of_several(key, values, option)) is not None:
            fixes.insert(0, instead)
        if "str" in takes.split("[")[0]:
            fixes.append(f"text is {shlex.quote(f'{key}={quoted(text)}')}")
        return UserError(f"{key}={text} is several values", "; ".join(fixes))

    def _unknown(self, key: str, value: str) -> UserError:
        axis, dot, option = key.partition(".")
        if not dot or axis not in {known.partition(".")[0] for known in self.known}:
            return _no_such_key(key, value, self.known)
        part = self.choices[axis] if axis in AXES else axis
        return _no_such_option(key, part, self.known, list(self._elsewhere(axis, option)))

    def _elsewhere(self, axis: str, option: str) -> Iterator[str]:
        for name in self.registry.names(axis) if axis in AXES else ():
            with suppress(UserError):  # a part that cannot be chosen is no alternative
                if option in {field.name for field in fields(self._class(axis, name))}:
                    yield f"{axis}={name}"

    def _option(self, key: str) -> Field[Any] | None:
        """The field with a key's type, where the chosen part is there to tell it."""
        axis, _, name = key.partition(".")
        with suppress(UserError, KeyError):
            cls = self._class(axis, self.choices[axis]) if axis in AXES else VALUES[axis]
            return next((field for field in fields(cls) if field.name == name), None)
        return None

    def _class(self, axis: str, name: str) -> type[Any]:
        return self.registry.options_class(self.registry.find(axis, name))


VALUES: Mapping[str, type[Any]] = {**ROOT, "model": ModelOptions, "trainer": TrainerOptions}
"""What is no part's -> its types."""


def _no_such_key(key: str, value: str, known: Sequence[str]) -> UserError:
    """The error for a key whose first word is neither an axis nor a key."""
    group, dot, name = key.partition(".")
    groups = [*GROUPS, *(k for k in known if "." not in k and k not in GROUPS)]
    near = get_close_matches(group.lower(), groups, 1)
    guesses = [f"{near[0]}{dot}{name}={value}"] if near else []
    if not dot and group.lower() not in groups:  # the name of an option, without its group
        options = [k for k in known if k.count(".") == 1 and k.endswith(f".{group.lower()}")]
        guesses = [f"{option}={value}" for option in options] or guesses
    guess = f"did you mean {' or '.join(guesses)}?" if guesses else "the axes are " + ", ".join(GROUPS)
    return UserError(f"{key}: there is no such axis or key", guess)


def _no_such_option(key: str, part: str, known: Collection[str], elsewhere: Sequence[str]) -> UserError:
    """The error for an option that the chosen part lacks.

    Args:
        key: With its group.
        part: What was chosen for the group, or the group.
        known: Every key there is, with its group.
        elsewhere: Choices that have the option: ``["method=lora"]``.
    """
    group, _, name = key.partition(".")
    options = [k.partition(".")[2] for k in known if k.startswith(f"{group}.") and k != f"{group}.name"]
    near = get_close_matches(name, options, 1)
    guesses = [f"{' or '.join(elsewhere)} has it"] if elsewhere else []
    guesses += [f"did you mean {group}.{near[0]}?"] if near else []
    listed = f"options: {', '.join(options) or 'none'}"
    return UserError(f"{key}: {part} has no such option", f"{', or '.join(guesses)}  ({listed})" if guesses else listed)
