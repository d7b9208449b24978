"""A composed node against the class that holds its types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from core.errors import UserError
from core.options import within
from core.overrides import GROUPS


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a run is written."""

    dir: str | None


@dataclass(frozen=True, kw_only=True)
class PluginOptions:
    """Which plugins are left out."""

    disable: list[str]


ROOT: Mapping[str, type] = {"run": RunOptions, "plugins": PluginOptions}
"""Top-level nodes that are no axis, and their types; ``seed`` is a value."""


def check_root(composed: DictConfig, experiment_sets: Callable[[str], str | None]) -> None:
    """Every top-level key is known and there.

    Raises:
        UserError: one is missing, or is not one of ours.
    """
    wanted = {*GROUPS, *ROOT, "seed"} - {"experiment"}
    for key in sorted(wanted - set(map(str, composed))):
        raise UserError(f"the config has no {key}", f"an experiment or override removed it: give {key} a value")
    for key in map(str, composed):
        if key not in wanted and key != "experiment":
            near = get_close_matches(key, sorted(wanted), 1)
            file = experiment_sets(key)
            source = f"{file} sets {key}" if file else key
            raise UserError(
                f"{source}: there is no such axis or key", f"did you mean {near[0]}?" if near else "leave it out"
            )
    for key in wanted - {"seed"}:
        if not isinstance(composed[key], DictConfig):
            raise UserError(f"{key} is one value, but holds several options", f"{key}.OPTION=VALUE")


def check_name(composed: DictConfig, axis: str, choice: str) -> None:
    """A node's ``name`` is the axis' choice.

    Raises:
        UserError: it was changed by hand.
    """
    node = composed[axis]
    name = node.get("name") if isinstance(node, DictConfig) else None
    if name != choice:
        raise UserError(
            f"{axis}.name={name}, but {axis}={choice} was chosen",
            f"{axis}={name or choice}, and leave {axis}.name alone",
        )


def seed_of(tree: DictConfig) -> int:
    """The seed.

    Raises:
        UserError: it is no whole number, out of range, or missing.
    """
    if OmegaConf.is_missing(tree, "seed"):
        raise UserError("seed is missing", "seed=0")
    value = tree["seed"]
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"seed={'null' if value is None else value} is no whole number", "seed=0")
    within("seed", value, 0, 2**32 - 1)
    return value


def to_options(axis: str, node: DictConfig, cls: type, part: str, experiment_sets: Callable[[str], str | None]) -> Any:
    """Merge a node into its dataclass, which gives every value its type, and make it.

    Args:
        axis: For the names in errors.
        node: The composed values.
        cls: A frozen dataclass without defaults.
        part: Name of the part.
        experiment_sets: The experiment file that sets a key, or None.

    Raises:
        UserError: a key too many or too few, or a value of another type or out of range.
    """
    _check_keys(axis, node, cls, part, experiment_sets)
    try:
        # merging into the class is what converts and refuses values; the class has no defaults of its own
        typed: Any = OmegaConf.merge(OmegaConf.structured(cls), node)
        return OmegaConf.to_object(typed)
    except MissingMandatoryValue as error:
        key = f"{axis}.{error.full_key}"
        raise UserError(f"{key} is missing", f"{key}=VALUE") from error
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        raise _mistyped(axis, error, cls, node) from error


def _check_keys(
    axis: str, node: DictConfig, cls: type, part: str, experiment_sets: Callable[[str], str | None]
) -> None:
    known = [field.name for field in fields(cls)]
    for key in map(str, node):
        if key in known:
            continue
        file = experiment_sets(f"{axis}.{key}")
        if file is None:  # what was typed is checked before: its own yaml has it
            raise UserError(
                f"the yaml of {axis}={part} has {key}, its options class has not",
                f"give {cls.__name__} an option {key}, or take it out of the yaml",
            )
        near = get_close_matches(key, known, 1, 0.75)  # a file may well be for another part
        guess = f"did you mean {axis}.{near[0]}?  " if near else ""
        raise UserError(
            f"{file} sets {axis}.{key}: {part} has no such option", f"{guess}choose the {axis} it was written for"
        )
    for key in known:
        if OmegaConf.is_missing(node, key):  # ??? in the yaml; such a key is not "in" the node
            raise UserError(f"{axis}.{key} is missing", f"{axis}.{key}=VALUE")
        if key not in node:
            raise UserError(f"{axis}.{key} is missing", f"{axis}.{key}=VALUE, or put it into the yaml of {part}")


def _mistyped(axis: str, error: OmegaConfBaseException, cls: type, node: DictConfig) -> UserError:
    key = str(error.full_key or "")
    first = str(error.msg or error).splitlines()[0]
    name = key.split(".")[0].split("[")[0]
    option = next((field for field in fields(cls) if field.name == name), None)
    wanted = annotation(option) or "another type"
    given: Any = node.get(name)
    if wanted.startswith("list") and not isinstance(given, (ListConfig, DictConfig)):
        return UserError(f"{axis}.{name} is one value where a list is wanted", f"{axis}.{name}=[{given}]")
    if wanted.startswith("dict") and isinstance(given, str):
        return UserError(
            f"{axis}.{name} is one value where several with a name are wanted", f"'{axis}.{name}={{{given}: 1}}'"
        )
    if isinstance(given, ListConfig) and not wanted.startswith("list"):
        instead = instead_of_several(f"{axis}.{name}", list(given), option)
        return UserError(
            f"{axis}.{name} is a list where one value is wanted",
            instead or f"{axis}.{name} takes {_in_words(wanted)}",
        )
    return UserError(f"{axis}.{key}: {first}", f"{axis}.{name} takes {_in_words(wanted)}")


def annotation(option: Field[Any] | None) -> str:
    """An option's type as it is written; empty where it is not known.

    Example:
        >>> [annotation(field) for field in (*fields(PluginOptions), None)]
        ['list[str]', '']
    """
    kind = "" if option is None else option.type
    return kind if isinstance(kind, str) else kind.__name__ if type(kind) is type else str(kind)


def instead_of_several(key: str, values: Sequence[Any], option: Field[Any] | None) -> str | None:
    """What to type where an option of one value was given several, if the class with its type says so.

    It does in the metadata of the field: ``several`` makes a line from the key and the values.
    """
    tell = option.metadata.get("several") if option is not None else None
    return tell(key, [str(value) for value in values]) if tell is not None and len(values) > 1 else None


def _in_words(annotation: str) -> str:
    words = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "None": "null"}
    return " or ".join(words.get(part.strip(), part.strip()) for part in annotation.split("|"))
