"""Who offers what: plugins found, asked once and kept apart, so that a broken one stops no run that does without it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from core import contracts
from core.errors import UserError
from core.records import API, Part

HERE = Path(__file__).resolve().parent.parent
"""The folder that holds ``core``, ``plugins`` and ``conf``."""

AXES: Mapping[str, str] = {
    "loader": "hooktune_loaders",
    "quant": "hooktune_quantizers",
    "method": "hooktune_methods",
    "objective": "hooktune_objectives",
    "data": "hooktune_data",
    "optim": "hooktune_optimizers",
    "metric": "hooktune_metrics",
}
"""Axis of the config -> hook that offers its parts, in the order of ``conf/config.yaml``."""

CONTRACTS: Mapping[str, type] = {
    "loader": contracts.Loader,
    "quant": contracts.Quantizer,
    "method": contracts.Method,
    "objective": contracts.Objective,
    "data": contracts.DataSource,
    "optim": contracts.Optim,
    "metric": contracts.Metric,
}


@dataclass(frozen=True)
class Offer:
    """A part and where it comes from."""

    axis: str
    part: Part
    plugin: str
    distribution: str
    version: str


@dataclass(frozen=True)
class ConfDir:
    """A folder of yaml files and whose it is."""

    path: Path
    plugin: str
    distribution: str


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be asked, and why."""

    plugin: str
    distribution: str
    version: str
    reason: str


@dataclass
class Registry:
    """What is on offer.

    Attributes:
        offers: All parts, in the order they were found.
        conf_dirs: Folders of yaml beside the main one.
        broken: Plugins that could not be asked.
        plugins: Names of the plugins that answered.
        notes: Further lines worth saying once.
    """

    offers: list[Offer] = field(default_factory=list[Offer])
    conf_dirs: list[ConfDir] = field(default_factory=list[ConfDir])
    broken: list[Broken] = field(default_factory=list[Broken])
    plugins: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])

    def names(self, axis: str) -> list[str]:
        """Names of the parts of an axis, sorted."""
        return sorted({offer.part.name for offer in self.offers if offer.axis == axis})

    def find(self, axis: str, name: str) -> Offer:
        """The one part of that name.

        Raises:
            UserError: nobody offers it, or two do; it was written for other contracts; a module it needs is missing.
        """
        found = [offer for offer in self.offers if offer.axis == axis and offer.part.name == name]
        if not found:
            raise self._unknown(axis, name)
        if len(found) > 1:
            raise UserError(
                f"{axis}={name} is offered twice: by {' and by '.join(owner(offer) for offer in found)}",
                f"uninstall one of them, or plugins.disable=[{found[-1].plugin}]",
            )
        return _usable(found[0])

    def _unknown(self, axis: str, name: str) -> UserError:
        near = get_close_matches(name, self.names(axis), 1)
        suspects = [broken for broken in self.broken if self._may_offer(broken, axis, name)]
        if suspects and not near:
            reasons = "; ".join(f"{broken.distribution} is broken: {broken.reason}" for broken in suspects)
            return UserError(
                f"{axis}={name} cannot be offered: {reasons}", f"mend or reinstall {suspects[0].distribution}"
            )
        guess = f"did you mean {axis}={near[0]}?  " if near else ""
        return UserError(f"{axis}={name} does not exist", f"{guess}{axis}={'|'.join(self.names(axis))}")

    def _may_offer(self, broken: Broken, axis: str, name: str) -> bool:
        yaml = [d for d in self.conf_dirs if d.plugin == broken.plugin and (d.path / axis / f"{name}.yaml").exists()]
        return bool(yaml) or name in broken.plugin

    def options_class(self, offer: Offer) -> type:
        """The dataclass with the types of a part's options.

        Raises:
            UserError: it cannot be imported, or is not a frozen dataclass without defaults.
        """
        cls = _load(offer, offer.part.options, "options")
        if not (isinstance(cls, type) and is_dataclass(cls)):
            raise UserError(f"{label(offer)}: {offer.part.options} is no dataclass", _tell(offer))
        given = [f.name for f in fields(cls) if f.init and not _required(f)]
        if given:
            raise UserError(f"{label(offer)}: options {', '.join(given)} have defaults in code", _tell(offer))
        return cls

    def make(self, offer: Offer, options: Any) -> Any:
        """The object behind a part.

        Raises:
            UserError: it cannot be imported, or is not what its kind asks for.
        """
        for module in offer.part.import_first:
            importlib.import_module(module)
        cls = _load(offer, offer.part.target, "target")
        kind = CONTRACTS[offer.axis]
        if not (isinstance(cls, type) and issubclass(cls, kind)):
            raise UserError(
                f"{label(offer)}: {offer.part.target} is no subclass of core.api.{kind.__name__}", _tell(offer)
            )
        missing = sorted(getattr(cls, "__abstractmethods__", ()))
        if missing:
            raise UserError(f"{label(offer)}: {cls.__name__} does not define {', '.join(missing)}", _tell(offer))
        return cls(options)

    def warnings(self, chosen: Mapping[str, str]) -> list[str]:
        """One line for each thing that is wrong but does not concern what was chosen."""
        lines = [f"plugin {b.plugin} ({b.distribution}) is left out: {b.reason}" for b in self.broken]
        for axis, name in _twice((offer.axis, offer.part.name) for offer in self.offers):
            if chosen.get(axis) != name:
                lines.append(f"{axis}={name} is offered twice and cannot be chosen")
        for axis, name, owners in self.shadowed():
            if chosen.get(axis) != name:
                lines.append(f"{axis}/{name}.yaml is shipped twice, by {' and by '.join(owners)}")
        return [*lines, *self.notes]

    def shadowed(self) -> list[tuple[str, str, list[str]]]:
        """(axis, name, owners) of each yaml file that more than one folder has; ``common.yaml`` included."""
        owners: dict[tuple[str, str], list[str]] = {}
        for folder in [ConfDir(HERE / "conf", "built-in", "hooktune"), *self.conf_dirs]:
            for file in sorted(folder.path.glob("*/*.yaml")):
                owners.setdefault((file.parent.name, file.stem), []).append(folder.distribution)
        return [(axis, name, who) for (axis, name), who in owners.items() if len(who) > 1]


# ----------------------------------------------------------------------------------------------------------- loading
def reason(error: BaseException) -> str:
    """Why a plugin's code failed, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        return f"syntax error in {error.filename}:{error.lineno}: {error.msg}"
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({text})"
    if isinstance(error, pluggy.PluginValidationError):
        return (
            text.partition(" Argument(s)")[2] and f"a hook takes no argument{text.partition(' Argument(s)')[2]}"
        ) or text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _load(offer: Offer, place: str, what: str) -> Any:
    module_name, _, attribute = place.partition(":")
    try:
        module: ModuleType = importlib.import_module(module_name)
    except UserError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UserError(f"{label(offer)}: {what} {place} cannot be imported: {reason(error)}", _tell(offer)) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        near = get_close_matches(attribute, dir(module), 1)
        raise UserError(
            f"{label(offer)}: {module_name} has no {attribute}" + (f" (did you mean {near[0]}?)" if near else ""),
            _tell(offer),
        ) from None


def _usable(offer: Offer) -> Offer:
    part = offer.part
    if part.api != API:
        raise UserError(
            f"{label(offer)} was written for version {part.api} of the contracts, this is {API}",
            f"pip install -U {offer.distribution if part.api < API else 'hooktune'}",
        )
    for module in part.needs:
        if not _there(module):
            raise UserError(f"{offer.axis}={part.name} needs {module}", part.install or f"pip install {module}")
    return offer


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _required(option: Any) -> bool:
    from dataclasses import MISSING

    return option.default is MISSING and option.default_factory is MISSING


def _twice(keys: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    seen: set[tuple[str, str]] = set()
    return list(dict.fromkeys(key for key in keys if key in seen or seen.add(key)))


def owner(offer: Offer) -> str:
    """The distribution, and the folder for parts that came with hooktune."""
    return offer.distribution if offer.distribution != "hooktune" else f"hooktune (plugins/{offer.plugin})"


def label(offer: Offer) -> str:
    """How an error names a part."""
    return f"{offer.axis}={offer.part.name} of {owner(offer)}"


def _tell(offer: Offer) -> str:
    return f"tell the authors of {offer.distribution}, or choose another {offer.axis}: --help lists them"
