"""From a record to the class and the object it names; whatever goes wrong on the way names the part and its maker."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from core import contracts
from core.errors import UserError
from core.options import DataOptions, MetricOptions, OptimOptions

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


def load_options(offer: Offer) -> type:
    """The dataclass with the types of a part's options.

    Raises:
        UserError: it cannot be imported, is no dataclass, lacks what all of its kind have, or has defaults in code.
    """
    cls = _load(offer, offer.part.options, "options")
    if not (isinstance(cls, type) and is_dataclass(cls)):
        raise UserError(f"{label(offer)}: {offer.part.options} is no dataclass", _tell(offer))
    kind = OPTIONS.get(offer.axis)
    if kind is not None and not issubclass(cls, kind):
        raise UserError(
            f"{label(offer)}: {offer.part.options} is no subclass of core.api.{kind.__name__}", _tell(offer)
        )
    given = [option.name for option in fields(cls) if option.init and not _required(option)]
    if given:
        raise UserError(f"{label(offer)}: options {', '.join(given)} have defaults in code", _tell(offer))
    return cls


def make_part(offer: Offer, options: Any) -> Any:
    """The object behind a part, made as ``target(options)``.

    Raises:
        UserError: it cannot be imported, is not what its kind asks for, or does not take ``options``.
    """
    import_first([offer])
    cls = _load(offer, offer.part.target, "target")
    kind = CONTRACTS[offer.axis]
    if not (isinstance(cls, type) and issubclass(cls, kind)):
        raise UserError(f"{label(offer)}: {offer.part.target} is no subclass of core.api.{kind.__name__}", _tell(offer))
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise UserError(f"{label(offer)}: {cls.__name__} does not define {', '.join(missing)}", _tell(offer))
    try:
        # looked at beforehand: a TypeError from inside the constructor is a bug and keeps its traceback
        inspect.signature(cls).bind(options)
    except TypeError as error:
        raise UserError(f"{label(offer)}: {cls.__name__}(options) cannot be made: {error}", _tell(offer)) from None
    return cls(options)


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
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise UserError(f"{label(offer)}: there is no module {module}", _tell(offer))
        source = Path(spec.origin).read_text(encoding="utf-8") if spec.origin.endswith(".py") else attribute
        compile(source, spec.origin, "exec")
    except UserError:
        raise
    except BaseException as error:  # what finding it or its package raises, and sys.exit
        raise UserError(f"{label(offer)}: target {offer.part.target}: {reason(error)}", _tell(offer)) from error
    if not re.search(rf"\b{re.escape(attribute)}\b", source) and "import *" not in source:
        raise UserError(f"{label(offer)}: {module} has no {attribute}", _tell(offer))


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
    if isinstance(error, pluggy.PluginValidationError) and " Argument(s)" in text:
        return f"a hook takes no argument{text.partition(' Argument(s)')[2]}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def owner(offer: Offer) -> str:
    """The distribution, and the folder for parts that came with hooktune."""
    return offer.distribution if offer.distribution != "hooktune" else f"hooktune (plugins/{offer.plugin})"


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
        raise UserError(
            f"{label(offer)}: {module_name} has no {attribute}" + (f" (did you mean {near[0]}?)" if near else ""),
            _tell(offer),
        ) from None


def _import(offer: Offer, module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too: a part must not end the process without a word
        raise UserError(f"{label(offer)}: {what} cannot be imported: {reason(error)}", _tell(offer)) from error


def _required(option: Field[Any]) -> bool:
    return option.default is MISSING and option.default_factory is MISSING


def _tell(offer: Offer) -> str:
    return f"tell the authors of {offer.distribution}, or choose another {offer.axis}: --help lists them"
