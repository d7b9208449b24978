"""From a record to the class and the object it names; whatever goes wrong on the way names the part and its maker."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import pluggy

from core import contracts
from core.errors import UserError
from core.modules import find
from core.options import DataOptions, MetricOptions, OptimOptions
from core.returned import MADE_AS

if TYPE_CHECKING:
    from core.registry import Offer

CONTRACTS: dict[str, type] = {
    "loader": contracts.Loader,
    "quant": contracts.Quantizer,
    "method": contracts.Method,
    "objective": contracts.Objective,
    "data": contracts.DataSource,
    "optim": contracts.Optim,
    "metric": contracts.Metric,
}
"""Axis of the config -> what a part of it must be a subclass of."""

OPTIONS: dict[str, type] = {"data": DataOptions, "optim": OptimOptions, "metric": MetricOptions}
"""Axis -> what the options of its parts share, and the core reads."""

PATCHED = ("transformers", "peft", "trl")
"""What is built on torch, and takes no patches once it is imported."""


class PartError(UserError):
    """What is wrong with a part itself, whatever was typed."""

    def __init__(self, offer: Offer, what: str) -> None:
        tell = f"tell the authors of {offer.distribution}, or choose another {offer.axis}: --help lists them"
        super().__init__(f"{label(offer)}: {what}", tell)


class NotInstalledError(UserError):
    """A part lacks somebody else's package."""


def load_options(offer: Offer) -> type:
    """The dataclass with the types of a part's options.

    Raises:
        UserError: it cannot be imported, is no dataclass, lacks what all of its kind have, has defaults in code, or
            types that do not exist.
    """
    cls = _load(offer, offer.part.options, "options")
    if not (isinstance(cls, type) and is_dataclass(cls)):
        raise PartError(offer, f"{offer.part.options} is no dataclass")
    kind = OPTIONS.get(offer.axis)
    if kind is not None and not issubclass(cls, kind):
        raise PartError(offer, f"{offer.part.options} is no subclass of core.api.{kind.__name__}")
    given = [option.name for option in fields(cls) if option.init and not _required(option)]
    if given:
        raise PartError(offer, f"options {', '.join(given)} have defaults in code")
    try:
        get_type_hints(cls)
    except Exception as error:  # whatever an annotation raises when it is looked up
        raise PartError(offer, f"a type in {offer.part.options}: {reason(error)}") from error
    return cls


@contextmanager
def checking_options(offer: Offer) -> Generator[None]:
    """While inside, what a part's options raise of their own, ``sys.exit`` too, names the part.

    Raises:
        UserError: a value is wrong, or the class is.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise PartError(offer, f"options {offer.part.options} cannot be made: {reason(error)}") from error


def part_class(offer: Offer) -> type[Any]:
    """The class behind a part.

    Raises:
        UserError: it cannot be imported, or is not what its kind asks for.
    """
    import_first([offer])
    cls = _load(offer, offer.part.target, "target")
    kind = CONTRACTS[offer.axis]
    if not (isinstance(cls, type) and issubclass(cls, kind)):
        raise PartError(offer, f"{offer.part.target} is no subclass of core.api.{kind.__name__}")
    return cls


def make_part(offer: Offer, options: Any) -> Any:
    """The object behind a part, made as ``target(options)``.

    Raises:
        UserError: it cannot be imported, is not what its kind asks for, or does not take ``options``.
    """
    cls = part_class(offer)
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise PartError(offer, f"{cls.__name__} does not define {', '.join(missing)}")
    try:
        # looked at beforehand: a TypeError from inside the constructor is a bug and keeps its traceback
        inspect.signature(cls).bind(options)
    except TypeError as error:
        raise PartError(offer, f"{cls.__name__}(options) cannot be made: {error}") from None
    try:
        made = cls(options)
    except SystemExit as error:  # it would end the process, and a sweep's other jobs, without a word
        raise PartError(offer, f"{cls.__name__}(options) cannot be made: {reason(error)}") from error
    unset = [name for name in CONTRACTS[offer.axis].__annotations__ if not hasattr(made, name)]
    if unset:
        raise PartError(offer, f"{cls.__name__} does not set {', '.join(unset)}")
    if offer.axis == "method":
        _check_saves(offer, made)
    object.__setattr__(made, MADE_AS, label(offer))  # a part may be a frozen dataclass
    return made


def _check_saves(offer: Offer, method: contracts.Method) -> None:
    """What is trained for hours must be found again: where it is saved, and how it is loaded."""
    if method.saves not in ("adapter", "model"):
        raise PartError(offer, f"saves is {method.saves!r}, neither 'adapter' nor 'model'")
    if method.saves == "adapter" and type(method).load is contracts.Method.load:
        raise PartError(offer, f"{type(method).__name__} saves an adapter and does not define load")


def import_first(offers: Iterable[Offer]) -> None:
    """Import what parts want imported before the libraries that they patch.

    Raises:
        UserError: it cannot be imported, or it is too late.
    """
    for offer in offers:
        for module in offer.part.import_first:
            late = [library for library in PATCHED if library in sys.modules]
            if late and module not in sys.modules:
                raise UserError(
                    f"{label(offer)} patches libraries, and {late[0]} is imported already",
                    f"import {module} in the first line of the program",
                )
            _import(offer, module, module)


def look_at(offer: Offer) -> None:
    """Whether the file of a part's target is there, is Python and speaks of its class, without importing it.

    Raises:
        UserError: it is not.
    """
    module, _, attribute = offer.part.target.partition(":")
    try:
        spec = find(module)
        if spec is None or spec.origin is None:
            raise PartError(offer, f"there is no module {module}")
        source = Path(spec.origin).read_text(encoding="utf-8") if spec.origin.endswith(".py") else attribute
        compile(source, spec.origin, "exec")
    except UserError:
        raise
    except Exception as error:  # what finding and reading it raises
        raise PartError(offer, f"target {offer.part.target}: {reason(error)}") from error
    if not re.search(rf"\b{re.escape(attribute)}\b", source) and "import *" not in source:
        raise PartError(offer, f"{module} has no {attribute}")


def reason(error: BaseException) -> str:
    """Why a plugin's code failed, in one line.

    Example:
        >>> reason(SystemExit(3))
        'it calls sys.exit(3)'
    """
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        return f"syntax error in {error.filename}:{error.lineno}: {error.msg}"
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({text})"
    if isinstance(error, pluggy.PluginValidationError):
        found = re.search(r"for hook '(\w+)'.* Argument\(s\) \{(.*?)\}", text)
        return f"{found[1]} takes no argument, and there it has {found[2]}" if found else text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def owner(offer: Offer) -> str:
    """The distribution, and the folder for parts that came with hooktune."""
    return offer.distribution if offer.distribution != "hooktune" else f"hooktune (plugins/{offer.plugin})"


def keep_one(claims: Sequence[tuple[str, str]]) -> str:
    """What to type, one of which will do, where more than one plugin offers the same.

    Args:
        claims: Plugin and distribution of each.

    Example:
        >>> keep_one([("acme", "dist-acme"), ("acme", "dist-twin")])
        'pip uninstall dist-acme, or pip uninstall dist-twin'
    """
    names = [plugin for plugin, _ in claims]
    strangers = [claim for claim in claims if claim[1] != "hooktune"]
    ways = [f"pip uninstall {distribution}" for _, distribution in strangers]
    # a name that both have would disable both
    ways += [f"plugins.disable=[{name}]" for name, _ in strangers or claims if names.count(name) == 1]
    return ", or ".join(ways)


def label(offer: Offer) -> str:
    """How an error names a part."""
    return f"{offer.axis}={offer.part.name} of {owner(offer)}"


def _load(offer: Offer, place: str, what: str) -> Any:
    module_name, _, attribute = place.partition(":")
    module = _import(offer, module_name, f"{what} {place}")
    try:
        return getattr(module, attribute)
    except AttributeError:
        near = get_close_matches(attribute, dir(module), 1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        raise PartError(offer, f"{module_name} has no {attribute}{guess}") from None


def _import(offer: Offer, module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too: a part must not end the process without a word
        raise PartError(offer, f"{what} cannot be imported: {reason(error)}") from error


def _required(option: Field[Any]) -> bool:
    return option.default is MISSING and option.default_factory is MISSING
