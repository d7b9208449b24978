"""Who offers what: plugins found, asked once and kept apart, so that a broken one stops no run that does without it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.loading import NotInstalledError, keep_one, label, load_options, make_part, owner
from core.manners import watched
from core.modules import installed
from core.part_yaml import check_values
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


@dataclass(frozen=True)
class Offer:
    """A part and where it comes from.

    Attributes:
        axis: Where it can be chosen, such as ``method``.
        part: The record its plugin answered with.
        plugin: The folder in ``plugins/``, or the name of the entry point.
        distribution: What was installed; ``hooktune`` for folders in ``plugins/``.
        version: The distribution's.
    """

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
class Plugin:
    """A plugin that answered."""

    name: str
    distribution: str
    version: str


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
        conf_dirs: Folders of yaml beside the main one; those of broken plugins last.
        broken: Plugins that could not be asked.
        plugins: Plugins that answered.
        notes: Further lines worth saying once.
    """

    offers: list[Offer] = field(default_factory=list[Offer])
    conf_dirs: list[ConfDir] = field(default_factory=list[ConfDir])
    broken: list[Broken] = field(default_factory=list[Broken])
    plugins: list[Plugin] = field(default_factory=list[Plugin])
    notes: list[str] = field(default_factory=list[str])

    def names(self, axis: str) -> list[str]:
        """Names of the parts of an axis, sorted."""
        return sorted({offer.part.name for offer in self.offers if offer.axis == axis})

    def find(self, axis: str, name: str, asked: bool = True) -> Offer:
        """The one part of that name.

        Args:
            axis: Such as ``method``.
            name: What was chosen.
            asked: Whether somebody did; a default that a stranger offers too is ours.

        Raises:
            UserError: nobody offers it, or two do; it was written for other contracts; a module it needs is missing.
        """
        found = self._offering(axis, name)
        if not found:
            raise self._unknown(axis, name)
        if not asked:
            found = [offer for offer in found if offer.distribution == "hooktune"][:1] or found
        if len(found) > 1:
            raise UserError(
                f"{axis}={name} is offered twice: {_by([owner(offer) for offer in found])}",
                keep_one([(offer.plugin, offer.distribution) for offer in found]),
            )
        return _usable(found[0])

    def options_class(self, offer: Offer) -> type:
        """The dataclass with the types of a part's options.

        Raises:
            UserError: it cannot be imported, is no dataclass, or has defaults in code.
        """
        had_torch = "torch" in sys.modules
        who = f"options of {offer.axis}={offer.part.name} ({offer.distribution})"
        with watched() as did:
            loaded = load_options(offer)
        self.notes += [f"{who}: their module {what} when it is imported" for what in did]
        if not had_torch and "torch" in sys.modules:
            self.notes.append(f"{who} import torch: slow")
        return loaded

    def make(self, offer: Offer, options: Any) -> Any:
        """The object behind a part.

        Raises:
            UserError: it cannot be imported, is not what its kind asks for, or does not take ``options``.
        """
        return make_part(offer, options)

    def warnings(self, chosen: Mapping[str, str]) -> list[str]:
        """One line for each thing that is wrong but does not concern what was chosen.

        Args:
            chosen: Axis -> name; what is wrong with these is an error elsewhere.
        """
        lines = [f"plugin {b.plugin} ({b.distribution}) is left out: {b.reason}" for b in self.broken]
        for axis, name in dict.fromkeys((offer.axis, offer.part.name) for offer in self.offers):
            owners = [owner(offer) for offer in self._offering(axis, name)]
            if len(owners) > 1 and chosen.get(axis) != name:
                lines.append(f"{axis}={name} is offered twice, {_by(owners)}, and cannot be chosen by name")
        for axis, name, owners in self.shadowed():
            if chosen.get(axis) != name:
                lines.append(f"{axis}/{name}.yaml is shipped twice, {_by(owners)}: the first is taken")
        return [*lines, *self.notes]

    def shadowed(self) -> list[tuple[str, str, list[str]]]:
        """(axis, name, owners) of each yaml file that more than one folder has; ``common.yaml`` included.

        Folders of broken plugins do not count: Hydra looks there last, so they hide nothing.
        """
        owners: dict[tuple[str, str], dict[Path, str]] = {}
        for folder in [ConfDir(HERE / "conf", "built-in", "hooktune"), *self.conf_dirs]:
            if self.is_broken(folder):
                continue
            for file in sorted(folder.path.glob("*/*.yaml")):
                # two entry points of one package share its folder: the same file is no conflict
                owners.setdefault((file.parent.name, file.stem), {})[file.resolve()] = folder.distribution
        return [(axis, name, list(who.values())) for (axis, name), who in owners.items() if len(who) > 1]

    def check_yaml(self, axis: str, name: str) -> None:
        """Refuse a part whose values nobody ships, or two do, or which are for another axis.

        Raises:
            UserError: as said.
        """
        for there, stem, owners in self.shadowed():
            if (there, stem) == (axis, name):
                shipping = [d for d in self.conf_dirs if (d.path / axis / f"{name}.yaml").exists()]
                fix = keep_one([(folder.plugin, folder.distribution) for folder in shipping])
                raise UserError(f"{axis}/{name}.yaml is shipped twice, {_by(owners)}", fix)
        offers, file = self._offering(axis, name), self.yaml_of(axis, name)
        if file is not None and axis in AXES:
            check_values(file, axis)
        elif offers:
            raise UserError(
                f"{label(offers[0])} ships no conf/{axis}/{name}.yaml",
                f"reinstall {offers[0].distribution}, or tell its authors",
            )

    def yaml_of(self, axis: str, name: str) -> Path | None:
        """The file that Hydra takes."""
        folders = [HERE / "conf", *(folder.path for folder in self.conf_dirs)]
        return next((f for f in (folder / axis / f"{name}.yaml" for folder in folders) if f.exists()), None)

    def is_broken(self, folder: ConfDir) -> bool:
        """Whether the folder belongs to a plugin that could not be asked."""
        return any((b.plugin, b.distribution) == (folder.plugin, folder.distribution) for b in self.broken)

    def suspects(self, axis: str, name: str) -> list[Broken]:
        """Broken plugins that would offer it, by their own name or a yaml's."""
        return [broken for broken in self.broken if self._may_offer(broken, axis, name)]

    def _offering(self, axis: str, name: str) -> list[Offer]:
        return [offer for offer in self.offers if (offer.axis, offer.part.name) == (axis, name)]

    def _unknown(self, axis: str, name: str) -> UserError:
        if suspects := self.suspects(axis, name):
            reasons = "; ".join(f"{_source(broken)} is broken: {broken.reason}" for broken in suspects)
            return UserError(f"{axis}={name} cannot be offered: {reasons}", f"mend or reinstall {_source(suspects[0])}")
        near = [f"did you mean {axis}={other}?  " for other in get_close_matches(name, self.names(axis), 1)]
        other = [f"there is {o.axis}={name}, by {AXES[o.axis]}  " for o in self.offers if o.part.name == name]
        guess = next(iter([*other, *near]), "")
        return UserError(f"{axis}={name} does not exist", f"{guess}{axis}={'|'.join(self.names(axis))}")

    def _may_offer(self, broken: Broken, axis: str, name: str) -> bool:
        """By its name, or by a yaml of that name in its folder; the yaml of built-in plugins is in the main one."""
        folders = [folder.path for folder in self.conf_dirs if folder.plugin == broken.plugin]
        if broken.distribution == "hooktune":
            folders.append(HERE / "conf")
        return name == broken.plugin or any((folder / axis / f"{name}.yaml").exists() for folder in folders)


def _usable(offer: Offer) -> Offer:
    part = offer.part
    if part.api != API:
        raise UserError(
            f"{label(offer)} was written for version {part.api} of the contracts, this is {API}",
            f"pip install -U {offer.distribution if part.api < API else 'hooktune'}",
        )
    for module in part.needs:
        if not installed(module):
            raise NotInstalledError(f"{offer.axis}={part.name} needs {module}", part.install or f"pip install {module}")
    return offer


def _source(broken: Broken) -> str:
    return broken.distribution if broken.distribution != "hooktune" else f"hooktune (plugins/{broken.plugin})"


def _by(owners: list[str]) -> str:
    return "by " + " and by ".join(owners)
